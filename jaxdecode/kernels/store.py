"""TPU kernel: slots of all rows of a cache at once, stored from new tokens or moved.

A scatter of one token a row compiles to a loop over the rows on a TPU, and each turn waits for
the memory. Here the tiles of 128 slots that a row's tokens fall into are fetched for many rows
side by side, the tokens entered by a product with a one-hot matrix, and the tiles stored side
by side, in place. What is moved is a tile a row, or two where the tokens may straddle a border.

Arrays have the slots on the lanes, [A, B, Kv, hd, S] with S a multiple of 128, keys and values
alike. The other slots of a tile must be finite: a product multiplies them by zero.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxdecode import struct
from jaxdecode.types import Array, Int

LANES = 128
MEMORY = 2**22  # bytes of tiles that are held at a time
Held = tuple[Array, ...]


def tiled(width: int, dtype: Any) -> bool:
    """Whether heads of this width fill whole tiles, as the kernels for caches need it."""
    return dtype in (jnp.float32, jnp.bfloat16) and width % (32 // jnp.dtype(dtype).itemsize) == 0


@struct.dataclass
class Places:
    """Where tokens go or come from, prepared for all layers.

    Attributes:
      slots: i32[B, T, 1] each, -1 for none.
      first: i32[B], the tile that the ones of a row begin in.
      across: static, tiles that they may touch.
    """

    slots: tuple[Int[Array, "B T 1"], ...]
    first: Int[Array, "B"]
    across: int = struct.field(pytree_node=False)

    @classmethod
    def of(cls, slots: tuple[Int[Array, "B T"], ...], capacity: int, reach: int) -> Places:
        """Slots whose first ones are >= `capacity` are dropped; a row's others lie within
        `reach` neighbours."""
        tiles = -(-capacity // LANES)
        dropped = slots[0] >= capacity
        low = jnp.stack([jnp.where(dropped, capacity, slot) for slot in slots])
        across = min((reach + LANES - 2) // LANES + 1, tiles)
        first = jnp.clip(jnp.min(low, axis=(0, 2)) // LANES, 0, tiles - across)
        each = tuple(jnp.where(dropped, -1, slot)[..., None] for slot in slots)
        return cls(each, first.astype(jnp.int32), across)


def store(
    held: Held,
    layer: Int[Array, ""] | int,
    new: Held,
    places: Places,
    interpret: bool = False,
) -> Held:
    """The arrays with one layer's `new`, [B, T, Kv, hd] each, in `places`."""
    (slot,) = places.slots
    batch, tokens, _ = slot.shape
    flat = [x.astype(a.dtype).reshape(batch, tokens, -1) for x, a in zip(new, held, strict=True)]
    layer = jnp.asarray(layer, jnp.int32).reshape(1)
    return _call(held, layer, 1, places, flat, interpret)


def move(
    held: Held,
    places: Places,
    interpret: bool = False,
) -> Held:
    """The arrays with every layer's first `places` as the second were."""
    zero, layers = jnp.zeros((1,), jnp.int32), held[0].shape[0]
    return _call(held, zero, layers, places, [], interpret)


def _call(
    held: Held,
    layer: Int[Array, "1"],
    layers: int,
    places: Places,
    new: list[Array],
    interpret: bool,
) -> Held:
    _, batch, heads, width, _ = held[0].shape
    arrays, dtype, across = len(held), held[0].dtype, places.across
    row = heads * width * LANES * dtype.itemsize * across * arrays
    fitting = [n for n in range(1, batch + 1) if batch % n == 0 and n * row <= MEMORY]
    count = max(fitting, default=1)

    def rows(array: Array) -> pl.BlockSpec:
        return pl.BlockSpec((count, *array.shape[1:]), lambda layer, i, *_: (i, 0, 0))

    whole = pl.BlockSpec(memory_space=pl.ANY)
    given = [*places.slots, *new]
    buffer = pltpu.VMEM((count, heads, width, across * LANES), dtype)
    return tuple(
        pl.pallas_call(
            functools.partial(_store, arrays=arrays, count=count, moves=not new),
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=2,
                grid=(layers, batch // count),
                in_specs=[*map(rows, given), *[whole] * arrays],
                out_specs=[whole] * arrays,
                scratch_shapes=[*[buffer] * arrays, pltpu.SemaphoreType.DMA((arrays, count))],
            ),
            out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in held],
            input_output_aliases={2 + len(given) + i: i for i in range(arrays)},
            interpret=interpret,
            name="store_slots" if new else "move_slots",
        )(layer, places.first, *given, *held)
    )


def _store(layer, first, target, *refs, arrays: int, count: int, moves: bool) -> None:
    """Fetch the rows' tiles, enter what is new or moved, and store them, all rows abreast."""
    source, *refs = refs if moves else (None, *refs)
    new, refs = ((), refs) if moves else (refs[:arrays], refs[arrays:])
    held, out, buffers = (refs[i * arrays : (i + 1) * arrays] for i in range(3))
    done = refs[3 * arrays]
    begin, here = pl.program_id(1) * count, layer[0] + pl.program_id(0)
    span, dtype = buffers[0].shape[3], buffers[0].dtype
    # A product with ones and zeros is exact, also of float32 in several passes.
    product = functools.partial(
        jax.lax.dot_general,
        precision=jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )

    def copies(row):
        for number in range(arrays):
            at = pl.ds(pl.multiple_of(first[begin + row] * LANES, LANES), span)
            place = (here, begin + row, slice(None), slice(None), at)
            yield number, held[number].at[place], out[number].at[place]

    def fetch(row, _):
        for number, tile, _ in copies(row):
            pltpu.make_async_copy(tile, buffers[number].at[row], done.at[number, row]).start()

    def enter(row, _):
        def hit(place):
            lane = jax.lax.broadcasted_iota(jnp.int32, (place.shape[1], span), 1)
            return place[row] - first[begin + row] * LANES == lane

        to = hit(target)
        taken = jnp.max(to.astype(jnp.int32), axis=0, keepdims=True) > 0
        for number, tile, place in copies(row):
            buffer = buffers[number].at[row]
            pltpu.make_async_copy(tile, buffer, done.at[number, row]).wait()
            kept = buffer[...].reshape(-1, span)
            if source is None:
                tokens, axis = new[number][row], 0
            else:
                picked = product(kept, hit(source).astype(dtype), (((1,), (1,)), ((), ())))
                tokens, axis = picked.astype(dtype), 1
            placed = product(tokens, to.astype(dtype), (((axis,), (0,)), ((), ())))
            buffer[...] = jnp.where(taken, placed.astype(dtype), kept).reshape(buffer.shape)
            pltpu.make_async_copy(buffer, place, done.at[number, row]).start()

    def finish(row, _):
        for number, _, place in copies(row):
            pltpu.make_async_copy(buffers[number].at[row], place, done.at[number, row]).wait()

    for part in (fetch, enter, finish):
        jax.lax.fori_loop(0, count, part, None)
