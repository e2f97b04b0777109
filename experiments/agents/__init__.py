"""Experiments on agents that refine."""
