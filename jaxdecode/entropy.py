"""Entropy of next-token laws, and what a law thinks of the token that came."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxdecode.types import Array, Float, Int


def of(logp: Float[Array, "... V"]) -> Float[Array, "..."]:
    """-sum p ln p, in nats, from ln p; 0 ln 0 is 0."""
    return -jnp.sum(jnp.where(jnp.isneginf(logp), 0.0, jnp.exp(logp) * logp), axis=-1)


def nats(logits: Float[Array, "... V"]) -> Float[Array, "..."]:
    """Of the softmax, float32. NaN where no token can be drawn."""
    return of(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1))


def bits(logits: Float[Array, "... V"]) -> Float[Array, "..."]:
    """The same in bits."""
    return nats(logits) / math.log(2.0)


def rank(logits: Float[Array, "... V"], token: Int[Array, "..."]) -> Int[Array, "..."]:
    """The place of a token among all, 1 the most probable; of a tie the first token leads."""
    own = jnp.take_along_axis(logits, token[..., None], axis=-1)
    index = jnp.arange(logits.shape[-1])
    ahead = (logits > own) | ((logits == own) & (index < token[..., None]))
    return 1 + jnp.sum(ahead, axis=-1, dtype=jnp.int32)
