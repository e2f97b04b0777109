"""Agents: a loop on the host around batched generations and outside verifiers."""
