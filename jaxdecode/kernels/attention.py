"""TPU kernel: few queries attend to the filled slots of a cache, which stream by once.

One token, a chain of drafts, a tree, the lanes of a search: all of a row's queries are held
while blocks of its keys and values pass through fast memory, with the softmax of Milakov and
Gimelshein 2018 (arXiv:1805.02867) carried along. What is read is what some query of the row
sees, from its first block to its last, and scores are never stored. Windows, trees and arenas
are masks, which the caller has for all layers alike.

Keys and values have the slots on the lanes, [A, B, Kv, hd, S] with S a multiple of 128: no tile
is wasted where a chip holds one or two heads, and both products run along the slots.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxdecode import struct
from jaxdecode.kernels.store import LANES
from jaxdecode.types import Array, Bool, Float, Int

BLOCK = 2**20  # bytes of keys, or of values, that pass at a time
SCORES = 2**17  # elements of one key/value head's scores, at most
QUERIES = 1024  # of one key/value head, at most
HEADS = 8  # key/value heads that pass together, at most
LOW = float(np.finfo(np.float32).min)


@struct.dataclass
class Seen:
    """What the queries of a call see, prepared for all layers.

    Attributes:
      mask: i8[B, T', S], T' is T filled up to whole tiles.
      first, last: i32[B], the first and last block that a query of the row sees.
      block: static, slots of one.
    """

    mask: Int[Array, "B T S"]
    first: Int[Array, "B"]
    last: Int[Array, "B"]
    block: int = struct.field(pytree_node=False)

    @classmethod
    def of(cls, mask: Bool[Array, "B T S"], each: int, heads: int, width: int, size: int) -> Seen:
        """Prepare a mask, also where the slots do not fill their last tile.

        `each` query heads share one of `heads` key/value heads, which are `width` numbers of
        `size` bytes wide.
        """
        _, tokens, slots = mask.shape
        mask = jnp.pad(mask, ((0, 0), (0, padding(tokens)), (0, -slots % LANES)))
        rows, slots = mask.shape[1:]
        most = BLOCK // (together(heads) * width * LANES * size)
        most = max(1, min(most, SCORES // (each * rows * LANES)))
        blocks = -(-slots // LANES // most)
        block = -(-slots // LANES // blocks) * LANES
        seen = jnp.any(mask, axis=1)
        slot, there = jnp.arange(slots), jnp.any(seen, axis=1)
        first = jnp.min(jnp.where(seen, slot, slots - 1), axis=1)
        last = jnp.max(jnp.where(seen, slot, 0), axis=1)
        return cls(
            mask=mask.astype(jnp.int8),
            first=(jnp.where(there, first, 0) // block).astype(jnp.int32),
            last=(last // block).astype(jnp.int32),
            block=block,
        )


def padding(tokens: int) -> int:
    """What fills the queries of several tokens up to whole tiles."""
    return 0 if tokens == 1 else -tokens % 8


def together(heads: int) -> int:
    """Key/value heads that pass together."""
    return next(n for n in range(min(HEADS, heads), 0, -1) if heads % n == 0)


def fits(tokens: int, heads: int, kv_heads: int) -> bool:
    """Whether the kernel takes as many queries of these heads."""
    return heads // kv_heads * (tokens + padding(tokens)) <= QUERIES


def attend(
    q: Float[Array, "B T H hd"],
    k: Float[Array, "A B Kv hd S"],
    v: Float[Array, "A B Kv hd S"],
    layer: Int[Array, ""] | int,
    seen: Seen,
    scale: float,
    cap: float = 0.0,
    interpret: bool = False,
) -> Float[Array, "B T H hd"]:
    """softmax(cap(scale * q k) + mask) v; a query that sees nothing gets zeros."""
    batch, tokens, heads, width = q.shape
    groups, slots = k.shape[2], k.shape[4]
    padded = seen.mask.shape[1]
    # All queries of one key/value head, head by head, so that they share the rows of the mask.
    q = q.reshape(batch, tokens, groups, -1, width).transpose(0, 2, 3, 1, 4)
    q = jnp.pad(q, ((0, 0), (0, 0), (0, 0), (0, padded - tokens), (0, 0)))
    shape, each = q.shape, q.shape[2] * padded
    q = q.reshape(batch, groups, each, width)

    part, block = together(groups), seen.block

    def at(row, step, first, last):
        return jnp.minimum(first[row] + step, last[row])

    def held(row, heads, step, layer, first, last):
        return layer[0], row, heads, 0, at(row, step, first, last)

    keys = pl.BlockSpec((None, None, part, width, block), held)
    queries = pl.BlockSpec((None, part, each, width), lambda row, heads, *_: (row, heads, 0, 0))
    masks = pl.BlockSpec(
        (None, padded, block), lambda row, _, step, layer, *ends: (row, 0, at(row, step, *ends))
    )
    column = pltpu.VMEM((part, each, 1), jnp.float32)
    out = pl.pallas_call(
        functools.partial(_attend, scale=scale, cap=cap, slots=slots),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(batch, groups // part, -(-slots // block)),
            in_specs=[queries, masks, keys, keys],
            out_specs=queries,
            scratch_shapes=[column, column, pltpu.VMEM((part, each, width), jnp.float32)],
        ),
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary")
        ),
        interpret=interpret,
        name="attend_slots",
    )(jnp.asarray(layer, jnp.int32).reshape(1), seen.first, seen.last, q, seen.mask, k, v)
    out = out.reshape(shape)[:, :, :, :tokens]
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, tokens, heads, width)


def _attend(
    _, first, last, q, mask, k, v, out, top, total, mixed, *, scale: float, cap: float, slots: int
) -> None:
    row, step = pl.program_id(0), pl.program_id(2)
    heads, each, _ = q.shape
    rows, block = mask.shape

    @pl.when(step == 0)
    def _():
        top[...] = jnp.full(top.shape, LOW)
        total[...] = jnp.zeros(total.shape)
        mixed[...] = jnp.zeros(mixed.shape)

    @pl.when(first[row] + step <= last[row])
    def _():
        seen = mask[...].astype(jnp.int32) != 0
        ragged = slots % block != 0  # the last block ends in what is no slot
        if ragged:
            lane = jax.lax.broadcasted_iota(jnp.int32, (1, block), 1)
            there = lane < slots - (first[row] + step) * block
            seen &= there
        seen = jnp.broadcast_to(seen[None], (each // rows, rows, block)).reshape(each, block)
        wide = jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else None
        for head in range(heads):
            scores = jnp.dot(q[head], k[head], precision=wide, preferred_element_type=jnp.float32)
            scores *= scale
            if cap:
                scores = cap * jnp.tanh(scores / cap)
            scores = jnp.where(seen, scores, LOW)
            before = top[head]
            after = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
            weight = jnp.where(seen, jnp.exp(scores - after), 0.0)
            decay = jnp.exp(before - after)
            value = jnp.where(there, v[head], 0) if ragged else v[head]
            part = jax.lax.dot_general(
                weight.astype(v.dtype),
                value,
                (((1,), (1,)), ((), ())),
                precision=wide,
                preferred_element_type=jnp.float32,
            )
            top[head] = after
            total[head] = total[head] * decay + jnp.sum(weight, axis=1, keepdims=True)
            mixed[head] = mixed[head] * decay + part

    @pl.when(step == pl.num_programs(2) - 1)
    def _():
        sums = total[...]
        out[...] = (mixed[...] / jnp.where(sums > 0, sums, 1.0)).astype(out.dtype)
