"""Lists explored by what is in the context."""
