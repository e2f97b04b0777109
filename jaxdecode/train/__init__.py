"""Training: one loop, losses as functions, checkpoints that a killed run continues from."""
