"""A*-decoding."""
