"""Refining a hidden bit string: the one task on which IAD and best-of-N can be computed exactly.

A string of `bits` bits is to be found; a fresh bit is right with probability p. An agent that is
shown a string copies each of its bits with probability 1 - m and draws it anew otherwise. A score
is the share of right bits, so the number of right bits of the incumbent is a Markov chain: from c,

    one answer     Bin(c, 1 - m + m p) + Bin(bits - c, m p)
    best of K      its distribution function to the power K
    incumbent      the larger of that and c; with acceptance switched off, that alone

m = 1 uses no feedback, and then T rounds of K equal best-of-(T K).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom


@dataclass(frozen=True)
class Chain:
    """Attributes: bits, fresh (p), redraw (m), accept: whether the incumbent must be beaten."""

    bits: int = 12
    fresh: float = 0.6
    redraw: float = 0.2
    accept: bool = True

    def run(self, rounds: int, samples: int) -> list[NDArray[np.float64]]:
        """f64[bits + 1], the law of the incumbent's right bits, after each round."""
        first = binom.pmf(np.arange(self.bits + 1), self.bits, self.fresh)
        laws = [_best(first, samples)]
        move = np.stack([self._move(right, samples) for right in range(self.bits + 1)])
        for _ in range(rounds - 1):
            laws.append(laws[-1] @ move)
        return laws

    def _move(self, right: int, samples: int) -> NDArray[np.float64]:
        """The law of the next incumbent from one with `right` right bits."""
        kept = binom.pmf(np.arange(right + 1), right, 1 - self.redraw + self.redraw * self.fresh)
        mended = binom.pmf(
            np.arange(self.bits - right + 1), self.bits - right, self.redraw * self.fresh
        )
        law = _best(np.convolve(kept, mended), samples)
        if self.accept:
            law[right] += law[:right].sum()
            law[:right] = 0.0
        return law


def score(law: NDArray[np.float64]) -> float:
    """The mean share of right bits."""
    return float(law @ np.arange(len(law)) / (len(law) - 1))


def _best(law: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    """The law of the largest of `samples` draws."""
    return np.diff(np.cumsum(law) ** samples, prepend=0.0)
