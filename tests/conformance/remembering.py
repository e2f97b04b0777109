"""Speculators for the conformance tests that draft from text, corpora and tables."""

from __future__ import annotations

import jax.numpy as jnp

from algorithms.speculative.drafters.token_recycling import tree_of
from algorithms.speculative.token_recycling import token_recycling
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM


def recycled(generator: Generator, draft: EnumerableLM) -> Speculator:
    """A table of 3 successors, the draft model's at first."""
    table = jnp.argsort(-draft.unembed(draft.embed(jnp.arange(draft.vocab_size)[None]))[0], axis=1)
    return token_recycling(generator, table[:, :3].astype(jnp.int32), tree_of(".:3 0:2 1:1 00:1"))
