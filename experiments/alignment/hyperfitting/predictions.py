"""What a model predicts along given texts: loss, entropy, the mass of the top ranks."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxdecode.train.losses import Forward
from jaxdecode.types import Array, Float, Int

RANKS = (1, 3, 5)


class Predictions(NamedTuple):
    """Of R texts of T tokens, read by teacher forcing; positions 1..T-1.

    Attributes:
      loss: f32[R, T-1], -log p of the true token, nats.
      entropy: f32[R, T-1], nats.
      mass: f32[R, T-1, 3], probability of the 1, 3 and 5 most probable tokens.
      top: i32[R, T-1], the most probable token.
    """

    loss: Float[Array, "R T-1"]
    entropy: Float[Array, "R T-1"]
    mass: Float[Array, "R T-1 3"]
    top: Int[Array, "R T-1"]


@jax.jit
def predict(
    model: Forward, tokens: Int[Array, "R T"], temperature: Float[Array, ""] | float = 1.0
) -> Predictions:
    """The predictions of every token from those before it."""
    logits, _ = model.forward(tokens[:, :-1])
    logp = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    best, ids = jax.lax.top_k(logp, max(RANKS))
    return Predictions(
        loss=-jnp.take_along_axis(logp, tokens[:, 1:, None], axis=2)[..., 0],
        entropy=-jnp.sum(jnp.exp(logp) * logp, axis=2),
        mass=jnp.cumsum(jnp.exp(best), axis=2)[..., jnp.array(RANKS) - 1],
        top=ids[..., 0],
    )


def predict_all(
    model: Forward, tokens: NDArray[np.int32], rows: int, temperature: float = 1.0
) -> Predictions:
    """`predict` of any number of texts, so many at a time, on the host."""
    parts = [
        jax.device_get(predict(model, tokens[at : at + rows], temperature))
        for at in range(0, len(tokens), rows)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def matching_temperature(
    model: Forward, tokens: NDArray[np.int32], rows: int, entropy: float, halvings: int = 10
) -> float:
    """The temperature at which the mean entropy along the texts is `entropy`, by bisection
    of its logarithm between 1/16 and 16."""
    low, high = -4.0, 4.0
    for _ in range(halvings):
        middle = (low + high) / 2
        found = predict_all(model, tokens, rows, 2.0**middle).entropy.mean()
        low, high = (middle, high) if found < entropy else (low, middle)
    return float(2.0 ** ((low + high) / 2))
