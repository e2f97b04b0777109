"""Experiments on training a policy."""
