"""Small modules trained on a frozen target to draft for it."""
