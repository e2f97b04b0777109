"""What is computed of whole rows of logits where a vocabulary is split over devices.

A model whose parts lie on several devices leaves each with a part of the vocabulary. Filters,
sums, thresholds and draws look at a row again and again, and each look would be a collective.
Here the rows move once: every device gets its share of them whole, computes as one device
does, and what it found is gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdecode.target import PARTS, ROWS, target_of
from jaxdecode.types import Array, Float


def whole(logits: Float[Array, "*rows V"]) -> Float[Array, "*rows V"]:
    """Logits of which every device of a model holds all: for few rows, and for trees of them."""
    target, (batch, *between, vocab) = target_of(logits), logits.shape
    if target.size(PARTS) == 1:
        return logits
    rows, rest = target.axis(ROWS, batch), [None] * len(between)
    # Said on both sides, or the layers before would be laid out to suit what follows.
    split = target.lay(logits, rows, *rest, target.axis(PARTS, vocab))
    return target.lay(split, rows, *rest, None)


def on_whole_rows(f: Callable[..., Any], logits: Float[Array, "R V"], *trees: Any) -> Any:
    """`f(logits, *trees)`, a tree of numbers; all leaves lead with R and rows are independent."""
    target, (count, vocab) = target_of(logits), logits.shape
    rows, parts = target.axis(ROWS, count), target.size(PARTS)
    share, rest = divmod(count if rows is None else count // target.size(ROWS), parts)
    if parts == 1 or rest or vocab % parts:
        return f(whole(logits), *trees)

    def part(logits: Array, *trees: Any) -> Any:
        logits = jax.lax.all_to_all(logits, PARTS, split_axis=0, concat_axis=1, tiled=True)
        first = jax.lax.axis_index(PARTS) * share
        own = [
            jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, share), tree)
            for tree in trees
        ]
        return _gathered(f(logits, *own))

    lead = PartitionSpec(rows)
    specs = (PartitionSpec(rows, PARTS), *[lead] * len(trees))
    return target.per_device(part, specs, lead)(logits, *trees)


def _gathered(tree: Any) -> Any:
    """The rows of all parts, in one collective: every number as 32 bits of one array."""
    leaves, structure = jax.tree.flatten(tree)

    def packed(x: Array) -> Array:
        wide = x if x.dtype.itemsize == 4 else x.astype(_wide(x))
        return jax.lax.bitcast_convert_type(wide, jnp.int32).reshape(x.shape[0], -1)

    columns = [packed(x) for x in leaves]
    table = jax.lax.all_gather(jnp.concatenate(columns, axis=1), PARTS, tiled=True)
    found, first = [], 0
    for leaf, column in zip(leaves, columns, strict=True):
        held = table[:, first : first + column.shape[1]].reshape(-1, *leaf.shape[1:])
        number = leaf.dtype if leaf.dtype.itemsize == 4 else _wide(leaf)
        found.append(jax.lax.bitcast_convert_type(held, number).astype(leaf.dtype))
        first += column.shape[1]
    return jax.tree.unflatten(structure, found)


def _wide(x: Array) -> Any:
    """A type of 32 bits that holds every number of a narrower one."""
    return jnp.float32 if jnp.issubdtype(x.dtype, jnp.floating) else jnp.int32
