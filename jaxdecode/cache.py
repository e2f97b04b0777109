"""The key-value cache: preallocated slots with one fill level per row.

Slots below `length` are the row's prefix; what lies beyond is garbage by contract and no
query ever sees it, so rolling back is setting a length. Every slot remembers the position of
its token: a branch of a tree or a node of an arena sits in a slot that is not its position.

How the slots lie in memory is the `Layout`'s business: this file alone asks it. All A layers are
one array, which a scan over the layers indexes, or one array each, [1, B, ...], which spares
layers that are written out the copy of their part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.layout import Layout, Places, fit, scatter
from jaxdecode.shared import Shared
from jaxdecode.target import Target, target_of
from jaxdecode.types import Array, Int


@struct.dataclass
class Cache:
    """State of the attention layers of one model for B rows of S slots.

    Attributes:
      k: keys, [A, B, Kv, hd, S], or a tuple of A arrays [1, B, Kv, hd, S].
      v: values, [A, B, Kv, S, hd], or as many arrays.
      position: i32[B, S], position of the token in each slot.
      length: i32[B], fill level.
      layout: static, in which order `k` and `v` really have their axes.
    """

    k: Any
    v: Any
    position: Int[Array, "B S"]
    length: Int[Array, "B"]
    layout: Layout = struct.field(pytree_node=False, default=Layout())

    @property
    def capacity(self) -> int:
        """S, slots of a row."""
        return self.position.shape[1]

    @property
    def batch(self) -> int:
        """B, rows."""
        return self.position.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the allocated key and value arrays."""
        return sum(array.size * array.dtype.itemsize for array in jax.tree.leaves((self.k, self.v)))


def allocate(
    layers: int,
    batch: int,
    heads: int,
    width: int,
    capacity: int,
    dtype: Any = jnp.float32,
    apart: bool = False,
    target: Target | None = None,
) -> Cache:
    """An empty cache for what runs on `target`; `heads` and `width` are those of keys and values,
    and `apart` gives every layer its own arrays."""
    if capacity < 1:
        raise ValueError(f"capacity={capacity}: a cache needs at least one slot")
    layout = Layout.of(target_of() if target is None else target)
    k, v = layout.zeros(batch, heads, width, capacity, 1 if apart else layers, dtype)
    if apart:
        k, v = (tuple(jnp.zeros_like(array) for _ in range(layers)) for array in (k, v))
    return Cache(
        k=k,
        v=v,
        position=jnp.zeros((batch, capacity), jnp.int32),
        length=jnp.zeros((batch,), jnp.int32),
        layout=layout,
    )


def arrays(cache: Cache, layer: Any) -> tuple[Array, Array, Any]:
    """Keys and values as they are stored, and which of their layers `layer` is."""
    if isinstance(cache.k, tuple):
        return cache.k[layer], cache.v[layer], 0
    return cache.k, cache.v, layer


def streams(cache: Cache, target: Target) -> bool:
    """Whether kernels take the arrays there as they are stored."""
    k, v, _ = arrays(cache, 0)
    return cache.layout.kernels(target, (k, v))


def read(cache: Cache, layer: Any) -> tuple[Array, Array]:
    """Keys [B, Kv, hd, S] and values [B, Kv, S, hd] of one layer."""
    k, v, index = arrays(cache, layer)
    return cache.layout.read((k, v), index, cache.capacity)


def places(cache: Cache, slot: Int[Array, "B T"]) -> Places:
    """Slots prepared for `write` in all layers; one >= capacity is dropped, and the others of a
    row lie within T neighbours."""
    k, v, _ = arrays(cache, 0)
    return cache.layout.places((k, v), slot, cache.capacity)


def write(cache: Cache, layer: Any, k: Array, v: Array, slot: Places, fresh: bool = False) -> Cache:
    """Store k, v [B, T, Kv, hd] of one layer in `places`.

    `fresh`: these are the first T of an empty cache, and what is to be dropped comes last and
    may be stored all the same, as garbage.
    """
    *held, index = arrays(cache, layer)
    if fresh:
        k, v = cache.layout.begin((held[0], held[1]), index, (k, v))
    else:
        k, v = cache.layout.store((held[0], held[1]), index, (k, v), slot)
    if not isinstance(cache.k, tuple):
        return replace(cache, k=k, v=v)
    return replace(cache, k=_with(cache.k, layer, k), v=_with(cache.v, layer, v))


def _with(layers: tuple[Array, ...], layer: int, array: Array) -> tuple[Array, ...]:
    return (*layers[:layer], array, *layers[layer + 1 :])


def place(cache: Cache, position: Int[Array, "B T"], slot: Int[Array, "B T"]) -> Cache:
    """Record the positions of the tokens about to be written to `slot`."""
    return replace(cache, position=put(cache.position, slot, position))


def put(array: Array, index: Int[Array, "B T"], values: Array) -> Array:
    """array[b, index[b, t]] = values[b, t]; an index past the end is dropped."""
    return scatter(array, 0, (1,), index[..., None], values)


def truncate(cache: Cache, length: Int[Array, "B"]) -> Cache:
    """Roll back, or forward over slots already written, to `length`."""
    return replace(cache, length=jnp.asarray(length, jnp.int32))


def keep(
    cache: Cache, path: Int[Array, "B P"], count: Int[Array, "B"], nodes: int | None = None
) -> Cache:
    """Compact a block written at length..: its nodes path[:, :count] become the prefix.

    `path` holds node indices relative to `length`, in order of depth. Entries at or past
    `count` are ignored. The fill level advances by `count`. `nodes`: how many the block has,
    where that is known.
    """
    chex.assert_type([path, count], int)
    chex.assert_equal_shape_prefix([path, count, cache.length], 1)
    step = jnp.arange(path.shape[1])
    source = jnp.clip(cache.length[:, None] + path, 0, cache.capacity - 1)
    target = jnp.where(step < count[:, None], cache.length[:, None] + step, cache.capacity)
    reach = None if nodes is None else max(nodes, path.shape[1])
    position = jnp.take_along_axis(cache.position, source, axis=1)
    return replace(
        _mapped(cache, lambda *kv: cache.layout.move(kv, source, target, cache.capacity, reach)),
        position=put(cache.position, target, position),
        length=cache.length + count,
    )


def _mapped(cache: Cache, of: Callable[[Array, Array], tuple[Array, Array]]) -> Cache:
    """The cache whose keys and values are what `of` makes of them."""
    if not isinstance(cache.k, tuple):
        k, v = of(cache.k, cache.v)
    else:
        k, v = zip(*map(of, cache.k, cache.v), strict=True)
    return replace(cache, k=k, v=v)


def fork(cache: Cache, parent: Int[Array, "B K"]) -> Cache:
    """The cache of B * K rows, taken from those of a cache of B groups of rows.

    Row b * K + k of the result is a copy of row parent[b, k] of group b.
    """
    chex.assert_rank(parent, 2)
    chex.assert_type(parent, int)
    return _moved(cache, lambda array, axis: _take(array, parent, axis))


def _moved(cache: Cache, of: Callable[[Array, int], Array]) -> Cache:
    """The cache whose rows, which lie on an axis of each array, are what `of` makes of them."""
    return replace(
        cache,
        k=jax.tree.map(lambda array: of(array, 1), cache.k),
        v=jax.tree.map(lambda array: of(array, 1), cache.v),
        position=of(cache.position, 0),
        length=of(cache.length, 0),
    )


def gather(tree: Any, parent: Int[Array, "B K"]) -> Any:
    """`fork` for any pytree whose leaves lead with rows, are caches, or are shared."""
    return _rows(tree, lambda cache: fork(cache, parent), lambda x: _take(x, parent, 0))


def spread(tree: Any, copies: int) -> Any:
    """Every row `copies` times, side by side; leaves lead with rows, are caches, or shared."""

    def several(array: Array, axis: int) -> Array:
        return jnp.repeat(array, copies, axis=axis)

    return _rows(tree, lambda cache: _moved(cache, several), lambda x: several(x, 0))


def put_rows(tree: Any, new: Any, at: Int[Array, "F"]) -> Any:
    """A tree, as of `gather` but with one row a prompt, whose rows `at` are those of another with
    fewer rows; an index past the end is dropped."""

    def layers(old: Any, new: Any) -> Any:
        if isinstance(old, tuple) and not isinstance(new, tuple):  # a cache of one row is whole
            new = tuple(new[layer : layer + 1] for layer in range(len(old)))
        elif isinstance(new, tuple) and not isinstance(old, tuple):
            new = jnp.concatenate(new)
        return jax.tree.map(lambda a, b: a.at[:, at].set(b, mode="drop"), old, new)

    def put_in(old: Any, new: Any) -> Any:
        if not isinstance(old, Cache):
            return old.at[at].set(new, mode="drop")
        return replace(
            old,
            k=layers(old.k, new.k),
            v=layers(old.v, new.v),
            position=put_in(old.position, new.position),
            length=put_in(old.length, new.length),
        )

    return jax.tree.map(put_in, tree, new, is_leaf=lambda leaf: isinstance(leaf, Cache))


def _take(array: Array, parent: Int[Array, "B K"], axis: int) -> Array:
    """Rows of each group; groups are a batch of gathers, as rows are in `scatter`."""
    groups, count = parent.shape
    lead, rest = array.shape[:axis], array.shape[axis + 1 :]
    grouped = array.reshape(*lead, groups, -1, *rest)
    index = parent.reshape(*[1] * axis, groups, count, *[1] * len(rest))
    taken = jnp.take_along_axis(grouped, index, axis=axis + 1)
    return taken.reshape(*lead, groups * count, *rest)


def _rows(tree: Any, of_cache: Callable[[Cache], Cache], of_array: Callable) -> Any:
    def move(leaf):
        if isinstance(leaf, Shared):
            return leaf
        return of_cache(leaf) if isinstance(leaf, Cache) else of_array(leaf)

    return jax.tree.map(move, tree, is_leaf=lambda leaf: isinstance(leaf, Cache | Shared))


def resize(cache: Cache, capacity: int) -> Cache:
    """The same rows with more slots, or with fewer where no row's prefix needs the rest."""
    if capacity == cache.capacity:
        return cache
    resized = _mapped(cache, lambda *kv: cache.layout.resize(kv, capacity))
    return replace(resized, position=fit(cache.position, 1, capacity))
