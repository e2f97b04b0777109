"""All results on one page, and the README's table."""
