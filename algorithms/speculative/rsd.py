"""Recursive speculative decoding: trees without replacement (Jeon et al. 2024, arXiv:2402.14160).

RSD-C   draft: at every node of level l, b_l children by Gumbel-top-k
RSD-S   draft: stochastic beam search, W sequences of L tokens
both    verify: recursive rejection sampling in the order in which siblings were drawn
"""

from __future__ import annotations

from algorithms.speculative.drafters.beam import PAPER, Beam
from algorithms.speculative.drafters.branching import Branching
from algorithms.speculative.drafters.siblings import Siblings
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import LogitsTransform
from jaxdecode.sampling import Sampler
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "recursive", "rsd_c", "rsd_s"]


def rsd_c(
    generator: Generator,
    draft: LanguageModel,
    factors: tuple[int, ...] = (2, 2, 2),
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """Constant branching factors, one for each level."""
    return recursive(generator, draft, Siblings(factors), transform, sampler)


def rsd_s(
    generator: Generator,
    draft: LanguageModel,
    width: int = 5,
    length: int = 5,
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """Stochastic beam search."""
    return recursive(generator, draft, Beam(width, length), transform, sampler)


def recursive(
    generator: Generator,
    draft: LanguageModel,
    branching: Branching,
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """Any tree without replacement; the draft is edited and sampled as the target is, unless
    said otherwise."""
    drafter = Tree(draft, branching, transform or generator.transform, sampler or generator.sampler)
    return Speculator(generator, drafter, Residual())
