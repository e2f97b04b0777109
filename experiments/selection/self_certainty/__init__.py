"""Self-certainty."""
