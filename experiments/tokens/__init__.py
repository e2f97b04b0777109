"""Experiments on choosing token by token."""
