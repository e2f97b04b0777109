"""Filling a canvas of masks: what is lost by deciding many places at once, and what is gained."""
