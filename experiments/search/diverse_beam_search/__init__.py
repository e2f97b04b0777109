"""Diverse beam search."""
