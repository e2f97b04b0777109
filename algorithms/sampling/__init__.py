"""One token after the other."""
