"""Two models that take turns."""
