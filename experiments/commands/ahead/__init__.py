"""Compiling for TPUs that are not there, and reading what their compiler says."""
