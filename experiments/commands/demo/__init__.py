"""A tour in some minutes."""
