"""Token recycling as a speculator: a table of successors, a fixed tree, exact matching.

    draft     tok[i] = M[tok[parent(i)], rank(i)] through the tree, from the root on
    verify    one pass; follow the drafts that plain decoding would draw
    recycle   M[tok[i]] = top-K tokens at node i, for every node that was run

Luo et al. 2024, arXiv:2408.08696.
"""

from __future__ import annotations

import jax.numpy as jnp

from algorithms.speculative.drafters.token_recycling import PAPER, TREE, Recycler
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator
from jaxdecode.types import Array, Int

__all__ = ["PAPER", "token_recycling"]

SUCCESSORS = 8


def token_recycling(
    generator: Generator,
    table: Int[Array, "V K"] | None = None,
    tree: tuple[int, ...] = TREE,
) -> Speculator:
    """The published method: 8 successors a token, the 80-node tree, an empty table at first."""
    if table is None:
        table = jnp.zeros((generator.model.vocab_size, SUCCESSORS), jnp.int32)
    return Speculator(generator, Recycler(table, tree), Match())
