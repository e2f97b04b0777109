"""Losses for values of prefixes, V(s) = E[r | s] under a reference (Mudgal et al. 2024, arXiv
2310.17022).

The model's outputs after s are V([s, z]) of every token z, so that one pass over a text gives
the values of all its prefixes and of all that they may go on with.

    FUDGE   1/2 (V([x, y^t]) - r(x, y))^2, for responses y that the reference wrote
    CD-Q    1/2 (V([x, y^t]) - v_t)^2,  v_t = sum_z p(z | [x, y^t]) V([x, y^t, z]), r at the end,

with no gradient through v_t; y may come from anywhere. Means over the tokens of the responses,
whose number is the metric `weight`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.train.losses import Forward
from jaxdecode.train.sequences import Sequences
from jaxdecode.types import Array, Float

Metrics = dict[str, Array]


def values(model: Forward, sequences: Sequences) -> tuple[Array, Float[Array, "R T V"]]:
    """V after every token, zero where nothing is said [R, T], and the outputs they came from."""
    tokens, length, said = sequences
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    outputs, _ = model.forward(tokens, valid)
    own = jnp.take_along_axis(outputs[:, :-1], tokens[:, 1:, None], axis=2)[..., 0]
    return jnp.where(said, jnp.pad(own, ((0, 0), (1, 0))), 0.0), outputs


def fudge(
    model: Forward, sequences: Sequences, reward: Float[Array, "R"]
) -> tuple[Float[Array, ""], Metrics]:
    """Every prefix's value towards the reward of the whole."""
    value, _ = values(model, sequences)
    return _squared(value, jnp.broadcast_to(reward[:, None], value.shape), sequences)


def cd_q(
    model: Forward, sequences: Sequences, reward: Float[Array, "R"], law: Float[Array, "R T V"]
) -> tuple[Float[Array, ""], Metrics]:
    """Every prefix's value towards what the reference's law `law` makes of the next ones."""
    value, outputs = values(model, sequences)
    ahead = jnp.sum(law * outputs, axis=2)
    last = jnp.arange(value.shape[1]) == sequences.length[:, None] - 1
    target = jax.lax.stop_gradient(jnp.where(last, reward[:, None], ahead))
    return _squared(value, target, sequences)


def next_law(model: Forward, sequences: Sequences) -> Float[Array, "R T V"]:
    """The law of the token after each one, which `cd_q` takes."""
    valid = jnp.arange(sequences.tokens.shape[1]) < sequences.length[:, None]
    return jax.nn.softmax(model.forward(sequences.tokens, valid)[0])


def _squared(value: Array, target: Array, sequences: Sequences) -> tuple[Any, Metrics]:
    error = jnp.where(sequences.said, value - target, 0.0)
    count = jnp.maximum(jnp.sum(sequences.said), 1)
    loss = 0.5 * jnp.sum(jnp.square(error)) / count
    weight = jnp.sum(sequences.said).astype(jnp.float32)
    return loss, {"error": jnp.sqrt(2.0 * loss), "weight": weight}
