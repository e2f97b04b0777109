"""Generators of problems with exact verifiers, and the corpora and tokenizers the models use."""
