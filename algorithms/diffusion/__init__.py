"""Decoding of masked diffusion language models."""
