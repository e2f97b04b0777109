"""SpecInfer: a tree of independent draws, verified in rounds (Miao et al. 2024, arXiv:2305.09781).

draft     a tree of constant factors; siblings are independent draws, and may repeat
verify    try the children in turn, each rejection leaving its residual of the target's law
"""

from __future__ import annotations

from algorithms.speculative.drafters.siblings import Siblings
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import LogitsTransform
from jaxdecode.sampling import Sampler
from jaxdecode.speculate import Speculator


def specinfer(
    generator: Generator,
    draft: LanguageModel,
    factors: tuple[int, ...] = (5, 1, 1, 1, 1, 1, 1, 1),
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """By default 5 sequences of 8 tokens; the draft is edited and sampled as the target is,
    unless said otherwise."""
    drafter = Tree(
        draft,
        Siblings(factors, replacement=True),
        transform or generator.transform,
        sampler or generator.sampler,
    )
    return Speculator(generator, drafter, Residual(replacement=True))
