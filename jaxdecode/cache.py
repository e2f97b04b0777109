"""The key-value cache: preallocated slots with one fill level per row.

Slots below `length` are the row's prefix; what lies beyond is garbage by contract and no
query ever sees it, so rolling back is setting a length. Every slot remembers the position of
its token: a branch of a tree or a node of an arena sits in a slot that is not its position.

Keys are laid out [A, B, Kv, hd, S] and values [A, B, Kv, S, hd]: the contraction over the
slots is then the contiguous axis of both matrix products, which made CPU attention 3-10x
faster than the [B, S, Kv, hd] order. This file is the only one that knows the layout.

All moves of slots are gathers followed by a scatter with an index array; XLA drops an index
past the capacity (`mode="drop"`), where `dynamic_update_slice` would silently clamp it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Int


@struct.dataclass
class Cache:
    """State of the attention layers of one model for B rows of S slots.

    Attributes:
      k: keys, [A, B, Kv, hd, S].
      v: values, [A, B, Kv, S, hd].
      position: i32[B, S], position of the token in each slot.
      length: i32[B], fill level.
    """

    k: Array
    v: Array
    position: Int[Array, "B S"]
    length: Int[Array, "B"]

    @property
    def capacity(self) -> int:
        return self.position.shape[1]

    @property
    def batch(self) -> int:
        return self.position.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the allocated key and value arrays."""
        return self.k.size * self.k.dtype.itemsize + self.v.size * self.v.dtype.itemsize


def allocate(
    layers: int, batch: int, heads: int, width: int, capacity: int, dtype=jnp.float32
) -> Cache:
    """An empty cache; `heads` and `width` are those of keys and values."""
    if capacity < 1:
        raise ValueError(f"capacity={capacity}: a cache needs at least one slot")
    return Cache(
        k=jnp.zeros((layers, batch, heads, width, capacity), dtype),
        v=jnp.zeros((layers, batch, heads, capacity, width), dtype),
        position=jnp.zeros((batch, capacity), jnp.int32),
        length=jnp.zeros((batch,), jnp.int32),
    )


def write(cache: Cache, layer, k: Array, v: Array, slot: Int[Array, "B T"]) -> Cache:
    """Store k, v [B, T, Kv, hd] of one layer; a slot >= capacity is dropped."""
    row = jnp.arange(cache.batch)[:, None]
    at = {"mode": "drop", "unique_indices": False}
    return replace(
        cache,
        k=cache.k.at[layer, row, :, :, slot].set(k.astype(cache.k.dtype), **at),
        v=cache.v.at[layer, row, :, slot, :].set(v.astype(cache.v.dtype), **at),
    )


def place(cache: Cache, position: Int[Array, "B T"], slot: Int[Array, "B T"]) -> Cache:
    """Record the positions of the tokens about to be written to `slot`."""
    row = jnp.arange(cache.batch)[:, None]
    return replace(cache, position=cache.position.at[row, slot].set(position, mode="drop"))


def truncate(cache: Cache, length: Int[Array, "B"]) -> Cache:
    """Roll back, or forward over slots already written, to `length`."""
    return replace(cache, length=jnp.asarray(length, jnp.int32))


def keep(cache: Cache, path: Int[Array, "B P"], count: Int[Array, "B"]) -> Cache:
    """Compact a block written at length..: its nodes path[:, :count] become the prefix.

    `path` holds node indices relative to `length`, in order of depth. Entries at or past
    `count` are ignored. The fill level advances by `count`.
    """
    step = jnp.arange(path.shape[1])
    source = jnp.clip(cache.length[:, None] + path, 0, cache.capacity - 1)
    target = jnp.where(step < count[:, None], cache.length[:, None] + step, cache.capacity)
    row = jnp.arange(cache.batch)[:, None]
    # Advanced indices split by slices move to the front: the pieces are [B, P, A, Kv, hd].
    k = cache.k[:, row, :, :, source]
    v = cache.v[:, row, :, source, :]
    position = cache.position[row, source]
    return Cache(
        k=cache.k.at[:, row, :, :, target].set(k, mode="drop"),
        v=cache.v.at[:, row, :, target, :].set(v, mode="drop"),
        position=cache.position.at[row, target].set(position, mode="drop"),
        length=cache.length + count,
    )


def fork(cache: Cache, parent: Int[Array, "..."]) -> Cache:
    """Gather rows: row i of the result is a copy of row parent.flat[i]."""
    rows = jnp.reshape(parent, -1)
    return Cache(
        k=jnp.take(cache.k, rows, axis=1),
        v=jnp.take(cache.v, rows, axis=1),
        position=jnp.take(cache.position, rows, axis=0),
        length=jnp.take(cache.length, rows, axis=0),
    )


def gather(tree: Any, parent: Int[Array, "..."]) -> Any:
    """Rows parent.flat of any pytree whose leaves lead with rows, or are caches."""
    rows = jnp.reshape(parent, -1)

    def pick(leaf):
        return fork(leaf, rows) if isinstance(leaf, Cache) else jnp.take(leaf, rows, axis=0)

    return jax.tree.map(pick, tree, is_leaf=lambda leaf: isinstance(leaf, Cache))


def resize(cache: Cache, capacity: int) -> Cache:
    """The same rows with more slots, or with fewer where no row's prefix needs the rest."""
    if capacity == cache.capacity:
        return cache
    kept = min(capacity, cache.capacity)
    more = capacity - kept

    def fit(array: Array, axis: int) -> Array:
        array = array[(slice(None),) * axis + (slice(0, kept),)]
        pad = [(0, 0)] * array.ndim
        pad[axis] = (0, more)
        return jnp.pad(array, pad)

    return replace(cache, k=fit(cache.k, 4), v=fit(cache.v, 3), position=fit(cache.position, 1))
