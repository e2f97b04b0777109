"""Momentum decoding: greedy text that resists its own loops."""
