"""Process rewards: one score for every step of a solution.

A step ends with a separator: a tag, a line break, the opening of a judge's turn. Its score is
read at the separator's last token, or, from a language model that would predict a verdict
there, one token before. How the scores of a solution combine (least, product, last) is the
affair of whoever searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int
from models.rewards import RewardModel

Where = Literal["separator", "before"]


@struct.dataclass
class ProcessReward:
    """A reward model and where it is to be read.

    Attributes:
      model: trained to judge steps.
      separator: i32[W], the tokens that end a step, W at least 1.
      at: static; "separator", or "before" its last token.
    """

    model: RewardModel
    separator: Int[Array, "W"]
    at: Where = struct.field(pytree_node=False, default="separator")

    @classmethod
    def of(
        cls, model: RewardModel, separator: int | Sequence[int], at: Where = "separator"
    ) -> ProcessReward:
        """From one token id or several in a row."""
        ids = [separator] if isinstance(separator, int) else list(separator)
        if not ids or not all(0 <= token < model.vocab_size for token in ids):
            raise ValueError(
                f"separator={separator}: one id or more in 0..{model.vocab_size - 1} are needed"
            )
        if at not in get_args(Where):
            raise ValueError(f"at={at!r}: use one of {', '.join(get_args(Where))}")
        return cls(model, jnp.asarray(ids, jnp.int32), at)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        length: Int[Array, "B"],
        steps: int,
        first: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B N"], Int[Array, "B"]]:
        """Scores of the steps of right-padded solutions, and how many steps there are.

        Args:
          steps: N, the most steps of a row.
          first: the index at which each row's solution begins; separators in the question
            before it are no steps'.
        Returns:
          Scores, in order, 0 past the count; and the count.
        Raises:
          ValueError: outside of jit, a row has more than N steps.
        """
        ends = step_ends(tokens, length, self.separator, first)
        count = jnp.sum(ends, axis=1, dtype=jnp.int32)
        if not isinstance(count, Tracer) and np.max(count, initial=0) > steps:
            row = int(np.argmax(count))
            raise ValueError(f"steps={steps}: row {row} has {int(count[row])} steps; pass more")
        outputs, _ = self.model.forward(tokens, jnp.arange(tokens.shape[1]) < length[:, None])
        at = step_index(ends, steps) - (self.at == "before")
        chosen = jnp.take_along_axis(outputs, jnp.clip(at, 0)[..., None], axis=1)
        scores = self.model.reward(chosen)
        return jnp.where(jnp.arange(steps) < count[:, None], scores, 0.0), count


def step_ends(
    tokens: Int[Array, "B T"],
    length: Int[Array, "B"],
    separator: Int[Array, "W"],
    first: Int[Array, "B"] | None = None,
) -> Bool[Array, "B T"]:
    """Which tokens are the last of a separator."""
    width = separator.shape[0]
    index = jnp.arange(tokens.shape[1])
    back = index[:, None] - width + 1 + jnp.arange(width)  # [T, W]
    start = jnp.zeros_like(length) if first is None else first
    spelled = jnp.all(tokens[:, jnp.clip(back, 0)] == separator, axis=2)
    begun = back[:, 0] >= start[:, None]
    return spelled & begun & (index < length[:, None])


def step_index(ends: Bool[Array, "B T"], steps: int) -> Int[Array, "B N"]:
    """Index of the first N marks of every row; 0 where there are fewer."""
    batch, width = ends.shape
    rank = jnp.where(ends, jnp.cumsum(ends, axis=1) - 1, steps)
    row = jnp.arange(batch)[:, None]
    index = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), ends.shape)
    return jnp.zeros((batch, steps), jnp.int32).at[row, rank].set(index, mode="drop")
