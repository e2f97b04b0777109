"""Choosing among nodes by several keys, one tie rule for all."""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode.nodes import NONE
from jaxdecode.types import Array, Bool, Int


def least(able: Bool[Array, "B N"], *keys: Array) -> Int[Array, "B"]:
    """Of the able the first with the least keys, compared one after the other; NONE for none."""
    left = able
    for key in keys:
        lowest = jnp.min(jnp.where(left, key, jnp.inf), axis=1, keepdims=True)
        left &= key == lowest
    return jnp.where(jnp.any(able, axis=1), jnp.argmax(left, axis=1), NONE).astype(jnp.int32)
