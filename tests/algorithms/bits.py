"""A toy agent: the prompt is a hidden bit string, which it guesses bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algorithms.agents.agent import Reply, Review, Verdict


@dataclass(frozen=True)
class Bits:
    """Draws a bit right with probability `fresh`; copies a shown best's bit, or with probability
    `redraw` draws it anew. The worst shown changes the draws, so that a test sees it."""

    fresh: float = 0.6
    redraw: float = 0.2
    seed: int = 0

    def __call__(
        self, reviews: Sequence[Review], ids: Sequence[int], samples: int, first: int
    ) -> list[list[Reply]]:
        return [
            [self.reply(review, id, first + k) for k in range(samples)]
            for review, id in zip(reviews, ids, strict=True)
        ]

    def reply(self, review: Review, id: int, number: int) -> Reply:
        best = None if review.best is None else review.best.text
        worst = None if review.worst is None else review.worst.text
        return Reply(self.draw(review.prompt, best, worst, id, number), read=1, written=2)

    def draw(self, prompt: str, best: str | None, worst: str | None, id: int, number: int) -> str:
        salt = 0 if worst is None else 1 + int(worst, 2)
        rng = np.random.default_rng((self.seed, id, number, salt))
        hidden = np.array([int(bit) for bit in prompt])
        drawn = np.where(rng.random(len(hidden)) < self.fresh, hidden, 1 - hidden)
        if best is not None:
            anew = rng.random(len(hidden)) < self.redraw
            drawn = np.where(anew, drawn, [int(bit) for bit in best])
        return "".join(map(str, drawn))


def share(prompt: str, text: str) -> Verdict:
    """The share of right bits."""
    return Verdict(sum(a == b for a, b in zip(prompt, text, strict=True)) / len(prompt))


def strings(count: int, bits: int = 12, seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(map(str, row)) for row in rng.integers(0, 2, (count, bits))]
