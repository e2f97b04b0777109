"""Hyperfitting."""
