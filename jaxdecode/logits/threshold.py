"""Thresholds by bisection: which scores are the k largest, or carry a share of the mass.

A float32 has a monotone image among the int32, so that 32 halvings of that range find the
exact threshold, at a fraction of what sorting a vocabulary costs. All tokens that tie with
the threshold are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdecode.kernels.threshold import threshold
from jaxdecode.target import ROWS, Target, target_of
from jaxdecode.types import Array, Bool, Float, Int

BLOCK, BLOCKS = 128, 64  # tokens of a block, and how many of a long row's hold its best few


def ordered(x: Float[Array, "..."]) -> Int[Array, "..."]:
    """int32 that compare as the float32 do; the two zeros are equal, NaN is an extreme."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x).astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def mass_threshold(
    score: Float[Array, "R V"], weight: Float[Array, "R V"], mass: Float[Array, ""] | float
) -> Bool[Array, "R V"]:
    """The smallest set of highest scores whose weight is at least `mass` of the total.

    In other words a token is kept if the strictly better ones weigh less than the share. At
    least the best token is kept. Weights need not be normalised.
    """
    wanted = mass * jnp.sum(weight, axis=1)
    if (target := target_of(score, weight)).has_kernels:
        return _by_kernel(target, score, weight, wanted)
    key = ordered(score)
    found = _bisected(key, lambda kept: jnp.sum(jnp.where(kept, weight, 0.0), axis=1) >= wanted)
    return key >= found[:, None]


def rank_threshold(
    score: Float[Array, "R V"], k: Int[Array, ""] | Int[Array, "R"] | int
) -> Bool[Array, "R V"]:
    """The k highest scores, and whatever ties with the k-th.

    Few of many are sought in a few blocks of the row, which gives the same set.
    """
    if (target := target_of(score)).has_kernels:
        return _by_kernel(target, score, None, jnp.full(score.shape[:1], k, jnp.float32))
    key = ordered(score)

    def sought(among: Int[Array, "R N"]) -> Int[Array, "R"]:
        return _bisected(among, lambda kept: jnp.sum(kept, axis=1, dtype=jnp.int32) >= k)

    if score.shape[1] < 4 * BLOCK * BLOCKS:
        return key >= sought(key)[:, None]
    near = _near(key)
    found = jax.lax.cond(
        jnp.all(jnp.asarray(k) <= BLOCKS),
        lambda near, _: sought(near),
        lambda _, key: sought(key),
        near,
        key,
    )
    return key >= found[:, None]


def _near(key: Int[Array, "R V"]) -> Int[Array, "R N"]:
    """The blocks of a row with the highest bests, side by side.

    Fewer than k blocks have a key above the k-th highest. So, for a k of at most as many blocks,
    all keys above it are there, and k keys that are no lower: it is the k-th highest there too.
    """
    rows, size = key.shape
    count = -(-size // BLOCK)
    whole = jnp.pad(key, ((0, 0), (0, count * BLOCK - size)), constant_values=-(2**31))
    blocks = whole.reshape(rows, count, BLOCK)
    _, best = jax.lax.top_k(jnp.max(blocks, axis=2), BLOCKS)
    return jnp.take_along_axis(blocks, best[..., None], axis=1).reshape(rows, -1)


def _by_kernel(
    target: Target,
    score: Float[Array, "R V"],
    weight: Float[Array, "R V"] | None,
    wanted: Float[Array, "R"],
) -> Bool[Array, "R V"]:
    """The same where a kernel keeps the row in fast memory, on each device for its rows."""
    key, rows = ordered(score), PartitionSpec(target.axis(ROWS, score.shape[0]))
    run = functools.partial(threshold, interpret=target.interpreted)
    run = target.per_device(run, (rows, rows, rows), rows)
    return key >= run(key, weight, wanted)[:, None]


def _bisected(
    key: Int[Array, "R V"], enough: Callable[[Bool[Array, "R V"]], Bool[Array, "R"]]
) -> Int[Array, "R"]:
    """The threshold of the smallest set {key >= threshold} that is enough; the lowest key where
    none is."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        ample = enough(key >= middle[:, None])
        return jnp.where(ample, middle, low), jnp.where(ample, high, middle)

    # Kept sets at `low` are enough (or everything), those at `high` are not.
    bounds = jnp.min(key, axis=1), jnp.max(key, axis=1) + 1
    threshold, _ = jax.lax.fori_loop(0, 32, halve, bounds)
    return threshold
