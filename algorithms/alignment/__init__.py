"""Aligning a policy for the decoder that it will be deployed with."""
