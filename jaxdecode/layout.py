"""How a cache lies in memory, which belongs to what a program is compiled for.

Keys are laid out [A, B, Kv, hd, S]. Values are [A, B, Kv, S, hd] on CPUs and GPUs: the
contraction over the slots is then the contiguous axis of both matrix products, which made CPU
attention 3-10x faster than the [B, S, Kv, hd] order. On TPUs values lie as keys do, with the
slots of both filled up to whole tiles of 128 lanes: no tile is wasted where a device holds one
or two heads, and kernels store, move and read the slots of all rows at once.

Elsewhere moves of slots are gathers followed by a scatter with an index array; XLA drops an
index past the capacity (`mode="drop"`), where `dynamic_update_slice` would silently clamp it.
`jaxdecode.cache` alone imports this.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdecode.kernels import store as kernel
from jaxdecode.target import PARTS, ROWS, Target, target_of
from jaxdecode.types import Array, Int

Held = tuple[Array, Array]  # keys and values of all layers, or of one
Places = kernel.Places | Int[Array, "B T"]
DROPPED = 2**30  # beyond any array that is filled up


@dataclass(frozen=True)
class Layout:
    """`lanes`: both arrays have the slots on the last axis, filled up to whole tiles."""

    lanes: bool = False

    @classmethod
    def of(cls, target: Target) -> Layout:
        """What a target likes."""
        return cls(lanes=target.platform == "tpu")

    @property
    def axes(self) -> tuple[int, int]:
        """Where keys and values have their slots."""
        return 4, 4 if self.lanes else 3

    def slots(self, capacity: int) -> int:
        """Slots that are allocated."""
        return -(-capacity // kernel.LANES) * kernel.LANES if self.lanes else capacity

    def zeros(
        self, batch: int, heads: int, width: int, capacity: int, layers: int, dtype: Any
    ) -> Held:
        """Empty arrays."""
        slots = self.slots(capacity)
        k = jnp.zeros((layers, batch, heads, width, slots), dtype)
        return k, jnp.zeros_like(k) if self.lanes else jnp.zeros_like(jnp.swapaxes(k, 3, 4))

    def read(self, held: Held, layer: Any, capacity: int) -> Held:
        """Keys [B, Kv, hd, S] and values [B, Kv, S, hd] of one layer."""
        k, v = (array[layer] for array in held)
        if self.lanes:
            k, v = k[..., :capacity], jnp.swapaxes(v[..., :capacity], 2, 3)
        return k, v

    def begin(self, held: Held, layer: Any, new: Held) -> Held:
        """Arrays with `new`, [B, T, Kv, hd] each, in the first T slots of one layer."""

        def begun(array: Array, new: Array, axis: int) -> Array:
            part = jnp.moveaxis(new, 1, axis - 1)[None].astype(array.dtype)
            return jax.lax.dynamic_update_slice(array, part, (layer, 0, 0, 0, 0))

        return _both(map(begun, held, new, self.axes))

    def places(self, held: Held, slot: Int[Array, "B T"], capacity: int) -> Places:
        """Prepare slots for `store`; one >= capacity is dropped, and the others of a row lie
        within T neighbours."""
        if self.kernels(target_of(held, slot), held):
            return kernel.Places.of((slot,), capacity, slot.shape[1])
        return jnp.where(slot < capacity, slot, DROPPED) if self.lanes else slot

    def store(self, held: Held, layer: Any, new: Held, slot: Places) -> Held:
        """Arrays with `new`, [B, T, Kv, hd] each, in the `places` of one layer.

        One device has no rows to keep apart, and there an index of rows makes a step of decoding
        1.3 times faster on a CPU than a batch of scatters does.
        """
        target = target_of(held, new, slot)
        if isinstance(slot, kernel.Places):
            rows, where = _parts(target, held)
            specs = (where, PartitionSpec(), PartitionSpec(rows, None, where[2]))
            run = functools.partial(kernel.store, interpret=target.interpreted)
            run = target.per_device(run, (*specs, PartitionSpec(rows)), where)
            return run(held, jnp.asarray(layer, jnp.int32), new, slot)
        if target.devices > 1:
            at = jnp.stack([jnp.full_like(slot, layer), slot], axis=-1)
            return _both(
                scatter(array, 1, (0, axis), at, x)
                for array, x, axis in zip(held, new, self.axes, strict=True)
            )
        row = jnp.arange(slot.shape[0])[:, None]

        def stored(array: Array, new: Array, axis: int) -> Array:
            at = array.at
            place = at[layer, row, :, :, slot] if axis == 4 else at[layer, row, :, slot, :]
            return place.set(new.astype(array.dtype), mode="drop")

        return _both(map(stored, held, new, self.axes))

    def move(
        self,
        held: Held,
        source: Int[Array, "B P"],
        to: Int[Array, "B P"],
        capacity: int,
        reach: int | None,
    ) -> Held:
        """Arrays whose slots `to` are as `source` was; a slot >= capacity is dropped. A row's
        others and their sources lie within `reach` neighbours, where that is known."""
        target = target_of(held, source, to)
        if reach is not None and self.kernels(target, held):
            rows, where = _parts(target, held)
            run = functools.partial(kernel.move, interpret=target.interpreted)
            run = target.per_device(run, (where, PartitionSpec(rows)), where)
            return run(held, kernel.Places.of((to, source), capacity, reach))

        def moved(array: Array, axis: int) -> Array:
            index = source[None, :, None, None, :]
            index = index if axis == 4 else jnp.swapaxes(index, 3, 4)
            kept = jnp.take_along_axis(array, index, axis=axis)
            at = jnp.where(to < capacity, to, DROPPED)[..., None]
            return scatter(array, 1, (axis,), at, jnp.moveaxis(kept, (1, axis), (0, 1)))

        return _both(map(moved, held, self.axes))

    def resize(self, held: Held, capacity: int) -> Held:
        """Arrays with more slots, or with the first of them."""
        slots = self.slots(capacity)
        return _both(fit(array, axis, slots) for array, axis in zip(held, self.axes, strict=True))

    def kernels(self, target: Target, held: Held) -> bool:
        """Whether the kernels take arrays of this layout there."""
        tiled = target.interpreted or kernel.tiled(held[0].shape[3], held[0].dtype)
        return self.lanes and target.has_kernels and tiled


def _parts(target: Target, held: Held) -> tuple[str | None, PartitionSpec]:
    """How rows are split, and how the arrays are."""
    _, batch, heads, *_ = held[0].shape
    rows = target.axis(ROWS, batch)
    return rows, PartitionSpec(None, rows, target.axis(PARTS, heads))


def _both(pair: Any) -> Held:
    k, v = pair
    return k, v


def fit(array: Array, axis: int, size: int) -> Array:
    """Cut, or filled up with zeros, to `size` on one axis."""
    array = array[(slice(None),) * axis + (slice(0, size),)]
    pad = [(0, 0)] * array.ndim
    pad[axis] = (0, size - array.shape[axis])
    return jnp.pad(array, pad)


def scatter(
    array: Array, rows: int, axes: tuple[int, ...], at: Int[Array, "B T X"], values: Array
) -> Array:
    """Set values [B, T, ...] at the places `at` on `axes`, row by row.

    The rows on axis `rows` are a batch of scatters and not an index of one: a compiler that has
    them on several devices then sees that no row concerns another device.
    """
    numbers = jax.lax.ScatterDimensionNumbers(
        update_window_dims=tuple(range(2, values.ndim)),
        inserted_window_dims=axes,
        scatter_dims_to_operand_dims=axes,
        operand_batching_dims=(rows,),
        scatter_indices_batching_dims=(0,),
    )
    values = values.astype(array.dtype)
    return jax.lax.scatter(array, at, values, numbers, mode="drop")
