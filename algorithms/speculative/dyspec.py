"""DySpec: a draft tree grown where acceptance is likely (Xiong et al. 2025, arXiv:2410.11744).

    greedy      until the budget is spent: draw at the place whose next draw is likeliest to be
                reached, one pass of the draft model for each node
    threshold   level by level: draw at every place while that chance is at least t, one pass
                for each level
    verify      recursive rejection sampling

The published listings print the threshold's test the other way round, the uniform as a normal,
and leave out the token after a leaf; what is meant is implemented.
"""

from __future__ import annotations

from algorithms.speculative.drafters.dynamic import PAPER, Greedy, Threshold
from algorithms.speculative.rsd import recursive
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel
from jaxdecode.logits import LogitsTransform, Temperature
from jaxdecode.sampling import Categorical, Sampler
from jaxdecode.speculate import Speculator

__all__ = ["PAPER", "dyspec", "dyspec_threshold"]


DRAFT_TEMPERATURE = 0.6


def dyspec(
    generator: Generator,
    draft: LanguageModel,
    budget: int = 64,
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """The greedy form; the draft has temperature 0.6, as published, unless said otherwise."""
    branching = Greedy(budget)
    return recursive(
        generator,
        draft,
        branching,
        transform or Temperature(DRAFT_TEMPERATURE),
        sampler or Categorical(),
    )


def dyspec_threshold(
    generator: Generator,
    draft: LanguageModel,
    budget: int = 64,
    threshold: float | None = None,
    levels: int | None = None,
    transform: LogitsTransform | None = None,
    sampler: Sampler | None = None,
) -> Speculator:
    """The form that takes a pass for each level; the threshold is one over the budget, unless
    said otherwise."""
    branching = Threshold(1.0 / budget if threshold is None else threshold, budget, levels)
    return recursive(
        generator,
        draft,
        branching,
        transform or Temperature(DRAFT_TEMPERATURE),
        sampler or Categorical(),
    )
