"""Mirostat: the surprise of a text held at a target."""
