"""Tables keyed by n-grams that grow on the device.

A hash table of fixed capacity: a key belongs to one of C buckets of `WAYS` slots and may stand
in any of them, so that finding it is one gather and one comparison; keys are compared in full.
Where a bucket is full, the slot that was observed least gives way. An entry holds up to K
tokens with a value each and how often it was observed.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.ngram.slots import fetch_rows, store_rows
from jaxdecode.types import Array, Bool, Float, Int

WAYS = 8
FREE = -1  # the token of an empty place


@struct.dataclass
class Entry:
    """Q entries of each of B tables, or of one that all share.

    Attributes:
      tokens: i32[B, Q, K], FREE on empty places.
      values: f32[B, Q, K], 0 on empty places.
      count: i32[B, Q], observations; 0 where there is no entry.
    """

    tokens: Int[Array, "*batch Q K"]
    values: Float[Array, "*batch Q K"]
    count: Int[Array, "*batch Q"]

    @property
    def found(self) -> Bool[Array, "*batch Q"]:
        return self.count > 0


@struct.dataclass
class Table:
    """B tables of C buckets.

    Attributes:
      keys: i32[B, C, WAYS, n]; a key shorter than n has FREE in front.
      tokens: i32[B, C, WAYS, K].
      values: f32[B, C, WAYS, K].
      count: i32[B, C, WAYS]; 0 marks a free slot.
    """

    keys: Int[Array, "B C W n"]
    tokens: Int[Array, "B C W K"]
    values: Float[Array, "B C W K"]
    count: Int[Array, "B C W"]

    @classmethod
    def empty(cls, batch: int, capacity: int, order: int, width: int) -> Table:
        """Room for about `capacity` keys of `order` tokens with `width` successors each."""
        shape = (batch, -(-capacity // WAYS), WAYS)
        return cls(
            keys=jnp.full((*shape, order), FREE, jnp.int32),
            tokens=jnp.full((*shape, width), FREE, jnp.int32),
            values=jnp.zeros((*shape, width), jnp.float32),
            count=jnp.zeros(shape, jnp.int32),
        )

    def locate(
        self, keys: Int[Array, "B Q n"]
    ) -> tuple[Int[Array, "B Q"], Int[Array, "B Q"], Bool[Array, "B Q"]]:
        """Bucket and way of each key, and whether it is there."""
        bucket = scatter_keys(keys, self.count.shape[1])
        here = jnp.all(fetch_rows(self.keys, bucket) == keys[:, :, None], axis=3)
        here &= fetch_rows(self.count, bucket) > 0
        return bucket, jnp.argmax(here, axis=2), jnp.any(here, axis=2)

    def read(self, keys: Int[Array, "B Q n"]) -> Entry:
        """The entries of the keys."""
        bucket, way, there = self.locate(keys)

        def held(array: Array) -> Array:
            return fetch_rows(joined(array), bucket * WAYS + way)

        return Entry(
            tokens=jnp.where(there[..., None], held(self.tokens), FREE),
            values=jnp.where(there[..., None], held(self.values), 0.0),
            count=jnp.where(there, held(self.count), 0),
        )

    def write(self, keys: Int[Array, "B Q n"], entry: Entry, valid: Bool[Array, "B Q"]) -> Table:
        """Set the entries of distinct keys.

        New keys of one bucket take its slots from the least observed on, none of which another
        of the keys has; those that find no such slot are not written.
        """
        bucket, way, there = self.locate(keys)
        there &= valid
        beside = (bucket[:, :, None] == bucket[:, None]) & valid[:, None]  # [B, Q, other Q]
        ways = jnp.arange(WAYS)
        held = beside & there[:, None]
        taken = jnp.any(held[..., None] & (way[:, None, :, None] == ways), axis=2)
        cost = jnp.where(taken, jnp.iinfo(jnp.int32).max, fetch_rows(self.count, bucket))
        cheapest = jnp.argsort(cost, axis=2, stable=True)
        order = jnp.arange(keys.shape[1])
        turn = jnp.sum(beside & ~there[:, None] & (order < order[:, None]), axis=2)
        fits = turn < WAYS - jnp.sum(taken, axis=2)
        free = jnp.take_along_axis(cheapest, jnp.minimum(turn, WAYS - 1)[..., None], axis=2)
        way = jnp.where(there, way, free[..., 0])
        slot = jnp.where(valid & (there | fits), bucket * WAYS + way, self.count[0].size)

        def stored(array: Array, new: Array) -> Array:
            return store_rows(joined(array), slot, new).reshape(array.shape)

        return Table(
            keys=stored(self.keys, keys),
            tokens=stored(self.tokens, entry.tokens),
            values=stored(self.values, entry.values),
            count=stored(self.count, entry.count),
        )


def joined(array: Array) -> Array:
    """[B, C, WAYS, ...] -> [B, C * WAYS, ...], the slots of all buckets in a row."""
    return array.reshape(array.shape[0], -1, *array.shape[3:])


def scatter_keys(keys: Any, buckets: int) -> Any:
    """The bucket i32[...] of each key i32[..., n], in NumPy or on the device: its tokens, mixed
    one after the other in 32 bits."""
    xp = np if isinstance(keys, np.ndarray) else jnp
    mixed = xp.full(keys.shape[:-1], 0x9E3779B9, xp.uint32)
    for place in range(keys.shape[-1]):
        mixed = (mixed ^ keys[..., place].astype(xp.uint32)) * xp.uint32(0x85EBCA6B)
        mixed = mixed ^ (mixed >> xp.uint32(15))
    mixed = mixed * xp.uint32(0xC2B2AE35)
    return ((mixed ^ (mixed >> xp.uint32(16))) % xp.uint32(buckets)).astype(xp.int32)


def combine(
    tokens: Int[Array, "... P"],
    values: Float[Array, "... P"],
    width: int,
    rank: Float[Array, "... P"] | None = None,
) -> tuple[Int[Array, "... K"], Float[Array, "... K"]]:
    """Sum the values of equal tokens, and keep the `width` with the largest rank.

    Args:
      rank: what decides what is kept, that of a token being the largest of its places; the
        summed values by default. Of equal ranks the first place wins.
    Returns:
      tokens, values: in the order of their rank; FREE and 0 where there are fewer.
    """
    places = jnp.arange(tokens.shape[-1])
    same = (tokens[..., None] == tokens[..., None, :]) & (tokens != FREE)[..., None]
    first = (jnp.argmax(same, axis=-1) == places) & (tokens != FREE)
    summed = jnp.sum(jnp.where(same, values[..., None, :], 0.0), axis=-1)
    rank = summed if rank is None else jnp.max(jnp.where(same, rank[..., None, :], -jnp.inf), -1)
    order = jnp.argsort(jnp.where(first, -rank, jnp.inf), axis=-1, stable=True)[..., :width]
    kept = jnp.take_along_axis(first, order, axis=-1)
    return (
        jnp.where(kept, jnp.take_along_axis(tokens, order, axis=-1), FREE),
        jnp.where(kept, jnp.take_along_axis(summed, order, axis=-1), 0.0),
    )
