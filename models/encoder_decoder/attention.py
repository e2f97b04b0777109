"""Attention with a bias for every distance, as T5 has it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.types import Array, Bool, Float, Int


def bucket(
    distance: Int[Array, "..."], buckets: int, farthest: int, both_ways: bool
) -> Int[Array, "..."]:
    """The bucket of the distance from a query to a key, positive where the key lies behind.

    Half of the buckets are single distances, the others grow by a logarithm up to `farthest`,
    the last of them without end. Where queries see both ways, each way has half of all.
    """
    if both_ways:
        buckets //= 2
        first = jnp.where(distance > 0, buckets, 0)
        far = jnp.abs(distance)
    else:
        first, far = 0, jnp.maximum(-distance, 0)
    # Looked up: a device's logarithm may put a bucket's first distance into the one before.
    known, single = np.arange(farthest + 1), buckets // 2
    share = np.log(np.maximum(known, 1) / single) / np.log(farthest / single)
    large = single + np.floor(share * (buckets - single) + 1e-9)
    row = np.where(known < single, known, np.minimum(large, buckets - 1)).astype(np.int32)
    return first + jnp.asarray(row)[jnp.minimum(far, farthest)]


def bias_of(
    weights: Float[Array, "N H"],
    query: Int[Array, "B T"],
    key: Int[Array, "B S"],
    farthest: int,
    both_ways: bool,
) -> Float[Array, "#B H T S"]:
    """What is added to the scores, by the positions of queries and keys."""
    distance = key[:, None, :] - query[:, :, None]
    place = bucket(distance, weights.shape[0], farthest, both_ways)
    return jnp.moveaxis(weights.astype(jnp.float32)[place], -1, 1)


def attend(
    q: Float[Array, "B T H hd"],
    k: Float[Array, "B H hd S"],
    v: Float[Array, "B H S hd"],
    mask: Bool[Array, "B T S"],
    bias: Float[Array, "#B H T S"] | None = None,
) -> Float[Array, "B T H hd"]:
    """softmax(q k + bias) v over what is seen; scores are not scaled."""
    scores = jnp.matmul(q.transpose(0, 2, 1, 3), k, preferred_element_type=jnp.float32)
    scores = scores if bias is None else scores + bias
    # A finite bound keeps a query that sees nothing finite: it is padding, and is ignored.
    scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.matmul(weights, v).transpose(0, 2, 1, 3)
