"""Whether a model fits on accelerators, and how fast it can be at most, before they are rented."""
