"""RASD as a speculator: a drafter's tree and a retrieved one, fused.

    T_d      EAGLE-2's dynamic tree, and its law p_d of the first draft token
    R        continuations of the text's longest end that occurs in a corpus, or in the text
    T_r      the most frequent prefixes of those in R that begin with a top-k token of p_d
    T        T_d and T_r fused by longest prefix match
    verify   one pass; follow the drafts that plain decoding would draw

Quan et al. 2025, arXiv 2503.03434.
"""

from __future__ import annotations

from algorithms.speculative.drafters.eagle import Eagle, FeatureHead
from algorithms.speculative.drafters.rasd import PAPER, Rasd
from algorithms.speculative.drafters.retrieval import Source
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "rasd"]


def rasd(
    generator: Generator,
    head: FeatureHead,
    source: Source,
    width: int = 10,
    length: int = 6,
    budget: int = 59,
    extra: int = 16,
    candidates: int = 10,
    merge: bool = True,
) -> Speculator:
    """EAGLE-2's published tree, with retrieval of `source`: `Datastore` or `Within`."""
    drafter = Rasd(Eagle(head, width, length, budget), source, extra, candidates, merge)
    return Speculator(generator, drafter, Match())
