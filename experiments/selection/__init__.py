"""Experiments on choosing among responses."""
