"""Scores at equal compute: how much less a method needs than best-of-N for the same score.

The mean score of best-of-N rises with log N, so the compute at which it equals a method's mean
score is interpolated in the logarithm. Intervals resample prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxdecode.order import expected_best

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A method on P prompts: score, decoded tokens and seconds of each, f64[P]."""

    score: Floats
    tokens: Floats
    seconds: Floats


@dataclass(frozen=True)
class Baseline:
    """Best-of-N at S sizes on P prompts.

    Attributes:
      sizes: N, rising, i64[S].
      score: expected best score of N, f64[P, S].
      tokens: expected decoded tokens, f64[P, S].
      seconds: typical seconds a prompt, f64[S].
    """

    sizes: NDArray[np.int64]
    score: Floats
    tokens: Floats
    seconds: Floats

    @classmethod
    def of(
        cls, sizes: Sequence[int], score: ArrayLike, length: ArrayLike, seconds: ArrayLike
    ) -> Baseline:
        """From the scores and lengths of M >= max(sizes) responses of each prompt, [P, M].

        Every N uses all M responses: the estimates are unbiased and of little variance.
        """
        scores = jnp.asarray(score, jnp.float32)
        best = [np.asarray(expected_best(scores, n), np.float64) for n in sizes]
        mean = np.asarray(length, np.float64).mean(axis=1, keepdims=True)
        numbers = np.asarray(sizes, np.int64)
        return cls(numbers, np.stack(best, axis=1), mean * numbers, np.asarray(seconds, np.float64))

    def speed_up(self, run: Run, prompts: ArrayLike | None = None) -> tuple[float, float]:
        """Times less compute at equal mean score, (in tokens, in seconds), on some prompts.

        A score beyond the largest N counts as that of the largest: a lower bound.
        """
        some = np.arange(len(run.score)) if prompts is None else np.asarray(prompts)
        curve = np.maximum.accumulate(self.score[some].mean(0))
        score = run.score[some].mean()

        def matched(compute: Floats) -> float:
            return float(np.exp(np.interp(score, curve, np.log(compute))))

        return (
            matched(self.tokens[some].mean(0)) / float(run.tokens[some].mean()),
            matched(self.seconds) / float(np.median(run.seconds[some])),
        )

    def interval(self, run: Run, draws: int = 1000) -> tuple[Floats, Floats]:
        """95 % bootstrap interval over prompts: (low, high), each [tokens, seconds]."""
        rng = np.random.default_rng(0)
        count = len(run.score)
        found = [self.speed_up(run, rng.integers(count, size=count)) for _ in range(draws)]
        low, high = np.percentile(found, [2.5, 97.5], axis=0)
        return low, high
