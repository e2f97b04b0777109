"""Superposed decoding."""
