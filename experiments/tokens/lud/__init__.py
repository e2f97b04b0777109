"""Lexical units said at once."""
