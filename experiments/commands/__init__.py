"""What is run from the command line besides experiments."""
