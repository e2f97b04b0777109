"""A law over texts that can be listed, and what filling several places at once costs it.

Entropies are in bits. For sets of places A, B, and H the entropy of a set's places together,

    C(B | A) = sum over i in B of H(x_i | x_A) - H(x_B | x_A)

is the conditional total correlation: the least divergence of any way to draw the places of B
independently once those of A stand. Filling the sets of an ordered partition S_1..S_T one after
another, each with the exact marginals given what stands, has the divergence

    KL(law || filled) = L_T = sum over i of C(S_i | S_1..S_i-1)

and no model does better in those sets (Kang et al. 2025, arXiv 2510.04767, theorem 1).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sets = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class FiniteLaw:
    """N different texts of L tokens.

    Attributes:
      support: i64[N, L].
      probability: f64[N], positive, of sum 1.
    Raises:
      ValueError: for shapes that do not agree, a repeated text, or no probabilities.
    """

    support: NDArray[np.int64]
    probability: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.support.ndim != 2 or self.probability.shape != self.support.shape[:1]:
            raise ValueError(
                f"support {self.support.shape} and probability {self.probability.shape}: give "
                "[N, L] and [N]"
            )
        if not (self.probability > 0).all() or abs(self.probability.sum() - 1) > 1e-9:
            raise ValueError(f"probability sums to {self.probability.sum()}; give positive shares")
        if len(np.unique(self.support, axis=0)) != len(self.support):
            raise ValueError("support: a text is listed twice; add up its probabilities")

    @classmethod
    def uniform(cls, texts: Iterable[Sequence[int]]) -> FiniteLaw:
        """Equal probability for each listed way; a text that several ways give has all theirs."""
        support, ways = np.unique(np.array(list(texts), np.int64), axis=0, return_counts=True)
        return cls(support, ways / ways.sum())

    @property
    def length(self) -> int:
        return self.support.shape[1]

    @functools.cached_property
    def entropies(self) -> NDArray[np.float64]:
        """f64[2^L], H of every set of places, a set being the number with its bits."""
        found = np.zeros(2**self.length)
        for chosen in range(1, 2**self.length):
            p = np.bincount(self._groups(chosen), self.probability)
            found[chosen] = -np.sum(p * np.log2(p))
        return found

    def _groups(self, chosen: int) -> NDArray[np.int64]:
        """i64[N], the same number for texts that agree on a set of places."""
        places = [i for i in range(self.length) if chosen >> i & 1]
        if not places:
            return np.zeros(len(self.support), np.int64)
        return np.unique(self.support[:, places], axis=0, return_inverse=True)[1].reshape(-1)

    def correlation(self, filled: Sequence[int] | None = None, given: Sequence[int] = ()) -> float:
        """C(filled | given) in bits; all places given nothing by default."""
        return self._correlation(
            _bits(range(self.length) if filled is None else filled), _bits(given)
        )

    def _correlation(self, filled: int, given: int) -> float:
        h, alone = self.entropies, 0.0
        for i in range(self.length):
            if filled >> i & 1:
                alone += h[given | 1 << i] - h[given]
        return float(alone - (h[given | filled] - h[given]))

    def bound(self, sets: Sets) -> float:
        """L_T of an ordered partition, in bits."""
        total, stands = 0.0, 0
        for filled in self._checked(sets):
            total += self._correlation(filled, stands)
            stands |= filled
        return total

    def best_bounds(self) -> list[tuple[float, Sets]]:
        """For T = 1..L the least L_T in bits, and a partition that has it (theorem 2)."""
        whole = 2**self.length - 1
        reached: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
        answers: list[tuple[float, Sets]] = []
        for _ in range(self.length):
            further: dict[int, tuple[float, tuple[int, ...]]] = {}
            for stands, (cost, sets) in reached.items():
                left = whole & ~stands
                filled = left
                while filled:
                    more = cost + self._correlation(filled, stands)
                    if more < further.get(stands | filled, (np.inf, ()))[0] - 1e-12:
                        further[stands | filled] = (more, (*sets, filled))
                    filled = (filled - 1) & left
            cost, sets = further[whole]
            answers.append((cost, [_places(chosen) for chosen in sets]))
            reached = further
        return answers

    def filling(self, sets: Sets) -> NDArray[np.float64]:
        """f64[N], how likely filling the sets in turn, places independently, makes each text.

        The rest of the probability, 1 - sum, is that of texts that the law never makes.
        """
        made, stands = np.ones(len(self.support)), 0
        for filled in self._checked(sets):
            before = np.bincount(group := self._groups(stands), self.probability)[group]
            for i in _places(filled):
                group = self._groups(stands | 1 << i)
                made *= np.bincount(group, self.probability)[group] / before
            stands |= filled
        return made

    def divergence(self, sets: Sets) -> float:
        """KL(law || filled) in bits, from the texts' probabilities; equals `bound`."""
        return float(np.sum(self.probability * np.log2(self.probability / self.filling(sets))))

    def _checked(self, sets: Sets) -> list[int]:
        chosen = [_bits(places) for places in sets]
        flat = list(itertools.chain.from_iterable(sets))
        if sorted(flat) != list(range(self.length)) or not all(chosen):
            raise ValueError(f"sets={sets}: every place of 0..{self.length - 1} belongs to one set")
        return chosen


def _bits(places: Iterable[int]) -> int:
    return functools.reduce(lambda bits, i: bits | 1 << i, places, 0)


def _places(chosen: int) -> list[int]:
    return [i for i in range(chosen.bit_length()) if chosen >> i & 1]
