"""When a method pauses, hands over, accepts a token or finds that it repeats."""
