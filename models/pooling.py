"""Where the reward of a whole sequence is read.

Ours is the last token, by length. The published rule reads the rightmost token whose id is not
the padding's, by id and not by mask: where padding is also an end token, the end of the text is
passed over, and the token before it is scored. Reproduce that for such a model by naming `pad`.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode.types import Array, Bool, Float, Int
from models.rewards import RewardModel


def pooled_index(
    tokens: Int[Array, "B T"], pad: int | None, length: Int[Array, "B"] | None = None
) -> Int[Array, "B"]:
    """The published rule: index of the rightmost token that is not `pad`, else 0.

    Args:
      tokens: padded on either side.
      pad: the model's padding id; without one only a single sequence has a last token.
      length: where given, tokens at or past it count as padding, whatever they are.
    Raises:
      ValueError: several rows and neither `pad` nor `length`.
    """
    batch, width = tokens.shape
    if pad is None and length is None and batch != 1:
        raise ValueError(
            f"pad=None: where {batch} rows end cannot be told without a padding id; pass the "
            "rows' length, or one row at a time"
        )
    index = jnp.arange(width)
    real = jnp.ones(tokens.shape, bool) if pad is None else tokens != pad
    if length is not None:
        real &= index < length[:, None]
    return jnp.max(jnp.where(real, index, 0), axis=1)


def sequence_rewards(
    model: RewardModel,
    tokens: Int[Array, "B T"],
    length: Int[Array, "B"],
    pad: int | None = None,
) -> Float[Array, "B"]:
    """Rewards of whole right-padded sequences.

    Args:
      length: at least 1.
      pad: read before trailing tokens of this id, as published models do.
    """
    valid: Bool[Array, "B T"] = jnp.arange(tokens.shape[1]) < length[:, None]
    outputs, _ = model.forward(tokens, valid)
    at = pooled_index(tokens, pad, length)
    return model.reward(jnp.take_along_axis(outputs, at[:, None, None], axis=1)[:, 0])
