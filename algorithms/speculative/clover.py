"""Clover as a speculator: heads that know what was guessed before them, a tree of few tokens.

    h_0      = Aug(h at every token of the text)
    h_i      = h_{i-1} + SiLU(cos(W_Q norm(h_{i-1}), W_K e_{i-1}) W_V e_{i-1})
    guesses  = head i of h_i, on every open node of level i
    tree     = level by level, the most probable paths of the top-p sets, while the budget lasts
    verify   = one pass; follow the drafts that plain decoding would draw

Xiao et al. 2024, arXiv 2405.00263.
"""

from __future__ import annotations

from algorithms.speculative.drafters.heads import DraftHeads, Heads
from algorithms.speculative.drafters.nucleus import PAPER, Nucleus
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "clover"]


def clover(
    generator: Generator,
    heads: DraftHeads,
    budget: int = 4,
    top_p: float = 0.8,
    ratio: float = 0.25,
) -> Speculator:
    """The published method: a tree of at most four tokens."""
    return Speculator(generator, Heads(heads, Nucleus(budget, top_p, ratio)), Match())
