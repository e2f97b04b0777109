"""STAND."""
