"""Every way of speculating, raced."""
