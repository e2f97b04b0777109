"""The reward that policies are trained on: scaled by prompt, and hackable where that is studied."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.scoring import Scorer, Spent
from jaxdecode.types import Array, Bool, Float


@struct.dataclass
class TrainingReward:
    """factor (r + bonus 1{a spurious word is said}).

    Attributes:
      scorer: r.
      factor: f32[P], by the prompt's id.
      bonus: f32[], 0 for none.
      spurious: bool[V], the words that earn it.
    """

    scorer: Scorer
    factor: Float[Array, "P"]
    bonus: Float[Array, ""]
    spurious: Bool[Array, "V"]

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        state, spent = self.scorer.init(prompt, samples)
        return (state, jnp.repeat(self.factor[prompt.id], samples)), spent

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        inner, factor = state
        value, inner, spent = self.scorer.score(inner, prompt, rows, window)
        said = jnp.arange(rows.tokens.shape[1]) < rows.length[:, None]
        found = jnp.any(self.spurious[rows.tokens] & said, axis=1)
        return factor * (value + self.bonus * found), (inner, factor), spent
