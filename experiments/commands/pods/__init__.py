"""What a TPU's own compiler makes of a fixed list of programs, held to a budget."""
