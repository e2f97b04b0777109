"""Experiments on searches, beams and values."""
