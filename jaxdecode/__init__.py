"""Decoding mechanisms: contracts, engines, caches and samplers, with no paper named in them."""
