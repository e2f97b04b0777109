"""The decoders of the command line: their names, their options, and how they are opened."""
