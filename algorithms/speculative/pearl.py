"""PEARL: draft while the target verifies, verify while the draft goes on (Liu et al. 2024, arXiv
2408.11850).

Plain speculative decoding lets each model wait for the other. Here both run all the time, on
devices of their own: `drafters.parallel` describes a step, `overlap` is the run on two devices.
With c the target's time of a pass over the draft model's, a step takes max(g / c, 1), so that
windows of g = c tokens leave nobody idle, and how many drafts are accepted in a row is not
bounded by a draft length.

On one device the tokens are the same and the time is not: `Clock` says what two would take.

With acceptance a, independent from token to token, a share pi of the steps starts within a text
(with pending tokens) and the others begin one:

    pi = a / (1 + a - a^g),    tokens a step: (1 - pi) + pi (1 - a^g) / (1 - a)

Deliberate differences: draws come from split keys, where the published code seeds a generator
with the position and reuses it; the ablation without pre-verification verifies every token of
its windows, where the published one never tests the first, and is not lossless.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.drafters.parallel import Parallel
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.autoregress import Generator
from jaxdecode.lm import LanguageModel
from jaxdecode.paper import Paper
from jaxdecode.speculate import Speculator

PAPER = Paper(
    slug="pearl",
    title="PEARL: Parallel Speculative Decoding with Adaptive Draft Length",
    authors=(
        "Tianyu Liu",
        "Yun Li",
        "Qitan Lv",
        "Kai Liu",
        "Jianchen Zhu",
        "Winston Hu",
        "Xiao Sun",
    ),
    year=2024,
    arxiv="2408.11850",
    venue="ICLR 2025",
    claim="drafting and verifying at the same time, with windows as long as the target is slow, "
    "is up to 1.5 times as fast as speculative decoding",
    losslessness="exact",
)


def pearl(
    generator: Generator,
    draft: LanguageModel,
    window: int = 4,
    pre_verify: bool = True,
    post_verify: bool = True,
) -> Speculator:
    """Windows of `window` tokens, best as many as one pass of the target has time for. The
    draft model draws as the generator does."""
    chain = Chain(draft, window, generator.transform, generator.sampler)
    return Speculator(generator, Parallel(chain, pre_verify, post_verify), Residual())


@dataclass(frozen=True)
class Clock:
    """Modelled time on two devices, in passes of the target over one token.

    Attributes:
      ratio: c, drafts that one pass of the target has time for.
      exchange: time to bring the two together, in every step.
    """

    ratio: float
    exchange: float = 0.0

    def __post_init__(self) -> None:
        if self.ratio <= 0 or self.exchange < 0:
            raise ValueError(
                f"ratio={self.ratio}, exchange={self.exchange}: times are positive, and an "
                "exchange is not negative"
            )

    def step(self, window: int) -> float:
        """Of one step in which both run."""
        return max(window / self.ratio, 1.0) + self.exchange

    def parallel(self, window: int, passes: float, drafts: float) -> float:
        """Of a run with so many passes of either model; a window that no pass of the target
        ran beside took its own time."""
        alone = max(drafts / window - passes, 0.0)
        return passes * self.step(window) + alone * window / self.ratio

    def in_turn(self, passes: float, drafts: float) -> float:
        """The same where each waits for the other: plain speculative decoding."""
        return passes + drafts / self.ratio


def within(alpha: float, window: int) -> float:
    """pi, the share of steps that start with pending tokens."""
    return alpha / (1 + alpha - alpha**window)


def tokens_a_step(alpha: float, window: int) -> float:
    """Expected tokens of a step."""
    pi = within(alpha, window)
    return (1 - pi) + pi * float(np.sum(alpha ** np.arange(window)))


def speed_up(alpha: float, window: int, clock: Clock) -> float:
    """Of PEARL over plain decoding."""
    return tokens_a_step(alpha, window) / clock.step(window)


def speed_up_in_turn(alpha: float, length: int, clock: Clock) -> float:
    """Of plain speculative decoding with drafts of `length` tokens."""
    return float(np.sum(alpha ** np.arange(length + 1))) / clock.in_turn(1, length)


def best_in_turn(alpha: float, clock: Clock, longest: int = 64) -> tuple[int, float]:
    """The draft length of plain speculative decoding that is fastest, and its speed-up."""
    found = [speed_up_in_turn(alpha, length, clock) for length in range(1, longest + 1)]
    return int(np.argmax(found)) + 1, max(found)
