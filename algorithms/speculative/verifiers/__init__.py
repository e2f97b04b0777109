"""Who decides how much of a draft holds."""
