"""Medusa as a speculator: independent heads, a fixed tree, one pass (Cai et al. 2024, arXiv
2401.10774).

    draft     the r-th most probable tokens of the heads, through a tree of ranks
    verify    one pass; follow the drafts that plain decoding would draw, or typical acceptance
    next      the hidden state at the last accepted token is what the heads start from
"""

from __future__ import annotations

from algorithms.speculative.drafters.heads import DraftHeads, Heads
from algorithms.speculative.drafters.ranked import Plan, Ranked
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.typical import Typical
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator

# A small tree for three heads: the first ranks of the first head matter most.
FIRST = [(0,), (1,), (2,), (3,)]
SECOND = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
THIRD = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
TREE = Ranked.of([*FIRST, *SECOND, *THIRD])


def medusa(
    generator: Generator, heads: DraftHeads, plan: Plan = TREE, typical: Typical | None = None
) -> Speculator:
    """Exact by default; `typical` trades exactness for longer acceptances, as published."""
    return Speculator(generator, Heads(heads, plan), typical or Match())
