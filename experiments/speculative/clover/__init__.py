"""Clover."""
