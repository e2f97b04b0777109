"""Learn2PD: a small filter decides which guesses are final (Bao et al. 2025, arXiv 2509.25188).

    accept_i = open_i and (sigma(f(c))_i > tau  or  i is the open place of highest confidence)

with f a filter (`algorithms.diffusion.filter`) of the block's confidences c, trained to imitate
the oracle that decides a token as soon as it equals the denoiser's own one-place-a-pass decoding
(`algorithms.diffusion.oracle`). End-of-text prediction (EoTP) cuts the canvas behind the first
end that the filter accepts, or else behind the surest end that is foreseen anywhere, so that
later passes are shorter (`jaxdecode.ending.EndOfText`).

Places cut off within the last block read as confidence 0. The forced place does not count as
accepted by the filter in EoTP's first rule. The first version of the paper is titled "Adaptive",
the second "Learnable Parallel Decoding"; the method is the same.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.diffusion.choosers import check_share, forced
from algorithms.diffusion.filter import Filter, fingerprint
from jaxdecode import struct
from jaxdecode.denoiser import Denoiser
from jaxdecode.ending import Ending, EndOfText
from jaxdecode.guess import Choice, Sight
from jaxdecode.paper import Paper
from jaxdecode.sampling import Greedy
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Float
from jaxdecode.unmask import Unmasker

PAPER = Paper(
    slug="learn2pd",
    title="Learning to Parallel: Accelerating Diffusion Large Language Models via Learnable "
    "Parallel Decoding",
    authors=("Wenrui Bao", "Zhiben Chen", "Dan Xu", "Yuzhang Shang"),
    year=2025,
    arxiv="2509.25188",
    venue="ICLR 2026",
    claim="a filter of 2,112 parameters and end-of-text prediction decode up to 22.58x faster "
    "without loss, 57.51x with a dual cache",
    losslessness="approximate",
)


@struct.dataclass
class Learned:
    """Places that a filter takes for right.

    Attributes:
      filter: its block is the unmasker's.
      threshold: tau, on sigma(z); 0.96 in the published evaluation.
    """

    filter: Filter
    threshold: Float[Array, ""] | float = 0.96

    def __post_init__(self) -> None:
        check_share("threshold", self.threshold)

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        if block != self.filter.block:
            raise ValueError(
                f"filter: trained for blocks of {self.filter.block} places, and the canvas has "
                f"blocks of {block}; train one for this block"
            )
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        there = sight.open | sight.done
        chance = jax.nn.sigmoid(self.filter(jnp.where(there, sight.guess.confidence, 0.0)))
        return forced(sight, chance > self.threshold), state


def learn2pd(
    denoiser: Denoiser,
    filter: Filter,
    stop: StopRule,
    max_tokens: int,
    threshold: Float[Array, ""] | float = 0.96,
    ending: Ending | None = None,
    **options: Any,
) -> Unmasker:
    """Decoding by a filter; `ending` defaults to end-of-text prediction by both rules.

    Raises:
      ValueError: for a filter of another block or denoiser.
    """
    if filter.model and filter.model != fingerprint(denoiser):
        raise ValueError(
            f"filter: trained for the denoiser {filter.model}, and this one is "
            f"{fingerprint(denoiser)}; confidences do not carry over, train one for it"
        )
    ending = EndOfText() if ending is None else ending
    block = options.pop("block", filter.block)
    chooser = Learned(filter, threshold)
    chooser.init(0, block)
    return Unmasker(
        denoiser, chooser, Greedy(), stop, max_tokens, block=block, ending=ending, **options
    )
