"""The most probable part of a passage."""
