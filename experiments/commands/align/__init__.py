"""A policy aligned to one's own preferences or reward, for the decoder it is deployed with."""
