"""A few entries of big arrays, read and written between the steps of a model.

On a CPU, XLA splits a gather or a scatter among threads by the size of the array and not by
that of what is moved, and where a handful of entries of a table is wanted between other steps,
threads wait for one another longer than it takes to move them: 20 us against less than one on a
busy machine. There the entries are moved in a loop of slices, which is not split.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.cache import put
from jaxdecode.target import target_of
from jaxdecode.types import Array, Int


def alone(*arrays: Array) -> bool:
    """Whether slices pay: on one CPU device, where no row has to be kept apart from others."""
    target = target_of(arrays)
    return target.platform == "cpu" and target.devices == 1


def fetch(array: Array, index: Int[Array, "..."]) -> Array:
    """array[index], on the first axis; an index outside reads the nearest entry."""
    flat = jnp.clip(index.reshape(-1), 0, array.shape[0] - 1)
    if alone(array, index):
        found = jax.lax.map(lambda i: jax.lax.dynamic_index_in_dim(array, i, 0, False), flat)
    else:
        found = array[flat]
    return found.reshape(*index.shape, *array.shape[1:])


def fetch_rows(array: Array, index: Int[Array, "B Q"]) -> Array:
    """array[b, index[b, q]]; an index outside reads the nearest entry."""
    size = array.shape[1]
    index = jnp.clip(index, 0, size - 1)
    if alone(array, index):
        start = jnp.arange(array.shape[0])[:, None] * size
        return fetch(array.reshape(-1, *array.shape[2:]), start + index)
    return array[jnp.arange(array.shape[0])[:, None], index]


def store_rows(array: Array, index: Int[Array, "B Q"], values: Array) -> Array:
    """array[b, index[b, q]] = values[b, q]; an index past the end is dropped, and of equal ones
    one entry stays."""
    if not alone(array, index):
        return put(array, index, values)
    (rows, size), (_, count) = array.shape[:2], index.shape
    flat = array.reshape(rows * size, *array.shape[2:])
    values = values.astype(array.dtype).reshape(rows * count, *array.shape[2:])

    def one(number: Int[Array, ""], flat: Array) -> Array:
        place = index.reshape(-1)[number]
        at = number // count * size + jnp.minimum(place, size - 1)
        held = jax.lax.dynamic_index_in_dim(flat, at, 0, False)
        new = jnp.where(place < size, values[number], held)
        return jax.lax.dynamic_update_index_in_dim(flat, new, at, 0)

    return jax.lax.fori_loop(0, rows * count, one, flat).reshape(array.shape)
