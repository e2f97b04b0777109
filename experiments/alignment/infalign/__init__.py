"""InfAlign."""
