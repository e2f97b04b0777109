"""Speculative rejection."""
