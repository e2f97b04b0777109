"""EleutherAI's evaluation harness over our models."""
