"""Speculative decoding: drafters, policies and verifiers, and the methods assembled of them."""
