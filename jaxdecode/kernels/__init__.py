"""Pallas kernels for what a compiler does badly: slots of a cache, stored, moved and attended to.

Each has a plain counterpart in JAX to which it is held, and nothing here decides when it runs.
"""
