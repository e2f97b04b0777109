"""Text from any model by any decoder."""
