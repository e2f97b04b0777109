"""EAGLE and EAGLE-2 as speculators (Li et al. 2024, arXiv 2401.15077 and 2406.16858).

draft     estimate hidden states from hidden states and tokens; the target's output matrix
          says which tokens follow
tree      the best `budget` of all continuations of a beam, by the product of probabilities
verify    one pass; follow the drafts that plain decoding would draw
commit    the head reads the accepted tokens with the target's own hidden states
"""

from __future__ import annotations

from algorithms.speculative.drafters.eagle import Eagle, FeatureHead
from algorithms.speculative.verifiers.match import Match
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator


def eagle(generator: Generator, head: FeatureHead, length: int = 4) -> Speculator:
    """A chain of `length` tokens."""
    return Speculator(generator, Eagle(head, 1, length, length), Match())


def eagle2(
    generator: Generator, head: FeatureHead, width: int = 10, length: int = 6, budget: int = 59
) -> Speculator:
    """A dynamic tree, by default of the published size."""
    return Speculator(generator, Eagle(head, width, length, budget), Match())
