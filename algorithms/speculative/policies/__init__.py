"""How deep to draft, and when to stop."""
