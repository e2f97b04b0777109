"""Experiments on methods that choose token by token."""
