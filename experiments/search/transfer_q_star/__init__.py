"""Transfer Q*."""
