"""Experiments on drafting ahead."""
