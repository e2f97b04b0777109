"""Draw many, keep one."""
