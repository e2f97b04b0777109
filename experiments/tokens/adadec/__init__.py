"""Looking ahead where a model is uncertain."""
