"""Kangaroo as a speculator: exit early to draft, and again where drafting is unsure.

    k = 0, 1, ...   f = first l layers on the newest token
                    stop if k = gamma, or k > 0 and the last top probability < eta
                    draft from softmax(U norm(f + attention(norm f)))
    verify          the other layers on all f at once; follow or reject, as usual

Liu et al. 2024, arXiv 2404.18911.
"""

from __future__ import annotations

from algorithms.speculative.drafters.kangaroo import PAPER, Adapter, Kangaroo
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.sampling import Greedy
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "kangaroo", "kangaroo_tree"]


def kangaroo(
    generator: Generator, adapter: Adapter, length: int = 6, threshold: float = 0.6
) -> Speculator:
    """The published chain. A sampling generator gets sampled drafts and rejection sampling."""
    sampler = generator.sampler
    drafter = Kangaroo(
        adapter, length, threshold=threshold, sampler=sampler, transform=generator.transform
    )
    verifier = Match() if isinstance(sampler, Greedy) else Residual()
    return Speculator(generator, drafter, verifier)


def kangaroo_tree(
    generator: Generator,
    adapter: Adapter,
    length: int = 6,
    width: int = 10,
    threshold: float = 0.4,
) -> Speculator:
    """Trees of the most probable paths, `width` nodes a level."""
    return Speculator(generator, Kangaroo(adapter, length, width, threshold=threshold), Match())
