"""Parts of the experiment; `main` runs it."""
