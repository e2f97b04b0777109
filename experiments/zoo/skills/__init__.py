"""What the models of the zoo can do on data they have not seen, beside what knows nothing of it."""
