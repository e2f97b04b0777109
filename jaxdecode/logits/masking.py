"""How every transform excludes tokens, so that a broken row stays one.

A row with a logit of NaN or +inf is unusable (`jaxdecode.sampling`). Where such a logit is
excluded the rest may look sound, and the row would go on with tokens that its model never gave
a meaning to: what is broken is never cut away.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxdecode.types import Array, Bool, Float, Int


def keep(
    kept: Bool[Array, "#R #V"] | Bool[Array, "V"], logits: Float[Array, "R V"]
) -> Float[Array, "R V"]:
    """The logits, with -inf for what is not kept and not broken."""
    return settle(kept, logits, -jnp.inf)


def ban(ids: Int[Array, "R N"] | Int[Array, "N"], logits: Float[Array, "R V"]) -> Array:
    """`keep` all tokens but `ids`, those of each row or the same of all; an id past the
    vocabulary is none."""
    rows = jnp.arange(logits.shape[0])[:, None]
    kept = jnp.ones(logits.shape, bool).at[rows, ids].set(False, mode="drop")
    return keep(kept, logits)


def settle(
    kept: Bool[Array, "#R #V"] | Bool[Array, "V"], logits: Float[Array, "R V"], other: Any
) -> Float[Array, "R V"]:
    """The logits where they are kept or broken, else `other`."""
    broken = jnp.isnan(logits) | jnp.isposinf(logits)
    return jnp.where(kept | broken, logits, other)
