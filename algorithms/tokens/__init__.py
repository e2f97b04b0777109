"""Methods that choose token by token."""
