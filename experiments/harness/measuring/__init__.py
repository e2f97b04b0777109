"""What the machine takes: seconds, passes, compilations."""
