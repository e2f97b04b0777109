"""PG-TD."""
