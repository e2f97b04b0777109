"""Worst-of-N: an adversary who tries N times and keeps what the reward likes least."""

from __future__ import annotations

from typing import Any

from algorithms.selection.best_of_n import BestOfN
from jaxdecode import struct
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Expander, Rows
from jaxdecode.scoring import Scorer, Spent
from jaxdecode.types import Array, Float


@struct.dataclass
class Negated:
    """Minus what another scorer says."""

    scorer: Scorer

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return self.scorer.init(prompt, samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        value, state, spent = self.scorer.score(state, prompt, rows, window)
        return -value, state, spent


def worst_of_n(
    generator: Expander, scorer: Scorer, samples: int, wave: int | None = None
) -> BestOfN:
    """Draws `samples` responses and returns the one that `scorer` likes least."""
    return BestOfN(generator, Negated(scorer), samples, wave)
