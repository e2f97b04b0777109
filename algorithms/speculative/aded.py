"""Adaptive draft-verification as a speculator: trigrams, PUCT search, exact matching.

    adapt     M[(a, b)][c] <- min(3, M[(a, b)][c] + 0.04) for the triples of the newest 16 tokens
    search    150 visits from the newest pair; the 23 most visited nodes, each one token longer
    draft     at most 64 of their prefixes
    verify    one pass; follow the drafts that plain decoding would draw

Liu et al. 2024, arXiv:2407.12021. The published sampling is biased; that rule is `Redraw`.
"""

from __future__ import annotations

from algorithms.speculative.drafters.aded import PAPER, Adaptive
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.ngram.counts import Counts
from jaxdecode.ngram.table import Table
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "aded"]


def aded(
    generator: Generator, corpus: Counts, memory: Table | None = None, rollout: bool = True
) -> Speculator:
    """The published settings; `corpus` counts what follows pairs, the 12 likeliest of each."""
    return Speculator(generator, Adaptive(corpus, memory, rollout=rollout), Match())
