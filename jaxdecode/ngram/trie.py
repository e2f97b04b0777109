"""Continuations that were found somewhere, and the tree of their prefixes.

A prefix weighs as much as the continuations that begin with it, so that a parent never weighs
less than its children and the heaviest prefixes are a tree (He et al. 2023, arXiv:2311.08252).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.types import Array, Bool, Float, Int

PAST = jnp.iinfo(jnp.int32).max


@struct.dataclass
class Continuations:
    """M sequences of at most T tokens that may follow the root.

    Attributes:
      tokens: i32[B, M, T]; -1 from the end of each on.
      weight: f32[B, M], how often each was found; 0 for a place without one.
    """

    tokens: Int[Array, "B M T"]
    weight: Float[Array, "B M"]

    @property
    def found(self) -> Bool[Array, "B"]:
        """Whether there is one."""
        return jnp.any(self.weight > 0, axis=1)


@struct.dataclass
class Tree:
    """At most N prefixes, of B rows or of one alone; parents precede children, the valid ones come
    first.

    Attributes:
      tokens: i32[B, N], 0 on places without a node.
      parent: i32[B, N], -1 for the root's children.
      depth: i32[B, N], 1 for the root's children.
      weight: f32[B, N].
      valid: bool[B, N].
    """

    tokens: Int[Array, "*batch N"]
    parent: Int[Array, "*batch N"]
    depth: Int[Array, "*batch N"]
    weight: Float[Array, "*batch N"]
    valid: Bool[Array, "*batch N"]

    def draft(self, active: Bool[Array, "B"], depth: int) -> Draft:
        """The tree, at most `depth` deep, as a draft that was chosen and not drawn."""
        return Draft(
            tokens=self.tokens,
            shape=Shape.grown(self.parent, depth),
            valid=self.valid & active[:, None],
            spent=Spent.nothing(self.tokens.shape[0]),
        )


def grow(
    continuations: Continuations, budget: int, keep: Literal["heavy", "shallow"] = "heavy"
) -> Tree:
    """The tree of the `budget` prefixes that weigh most, or that are shortest.

    Of equal prefixes by the first measure the shallower stays, then the heavier, then the one
    with the smaller tokens. Nodes are ordered by depth, and at one depth as they were kept.
    """
    return jax.vmap(lambda tokens, weight: _grow(tokens, weight, budget, keep))(
        continuations.tokens, continuations.weight
    )


def _grow(tokens: Int[Array, "M T"], weight: Float[Array, "M"], budget: int, keep: str) -> Tree:
    rows, width = tokens.shape
    there = jnp.cumprod((tokens >= 0) & (weight > 0)[:, None], axis=1).astype(bool)
    # Equal prefixes are neighbours once the rows are sorted, an ended row before longer ones.
    columns = jnp.where((weight > 0)[:, None], jnp.where(there, tokens, -1), PAST).T
    columns = jax.lax.sort((*columns, weight), num_keys=width)
    tokens, weight = jnp.stack(columns[:-1], axis=1), columns[-1]
    there = (tokens >= 0) & (tokens < PAST)
    same = jnp.concatenate([jnp.zeros((1, width), bool), tokens[1:] == tokens[:-1]])
    new = there & ~jnp.cumprod(same, axis=1).astype(bool)
    row = jnp.arange(rows)[:, None]
    first = jax.lax.cummax(jnp.where(new, row, 0), axis=0)  # the row that a prefix began with
    column = jnp.broadcast_to(jnp.arange(width), first.shape)
    mass = jnp.zeros(tokens.shape).at[first, column].add(jnp.where(there, weight[:, None], 0.0))

    depth = jnp.where(new, column + 1, PAST).ravel()
    mass = jnp.where(new, mass, -1.0).ravel()
    place = jnp.arange(rows * width, dtype=jnp.int32)
    keys = (-mass, depth) if keep == "heavy" else (depth, -mass)
    chosen = jax.lax.sort((*keys, place), num_keys=3)[2][:budget]
    chosen = jax.lax.sort((depth[chosen], jnp.arange(len(chosen)), chosen), num_keys=2)[2]
    chosen = jnp.pad(chosen, (0, budget - len(chosen)), constant_values=rows * width)

    def of(array: Array, otherwise) -> Array:
        return array.ravel().at[chosen].get(mode="fill", fill_value=otherwise)

    valid = of(new, False)
    number = jnp.full((rows * width,), -1, jnp.int32)
    number = number.at[chosen].set(jnp.arange(budget, dtype=jnp.int32), mode="drop")
    above = jnp.roll(first, 1, axis=1) * width + column - 1  # where the prefix before it began
    parent = number.at[jnp.where(column > 0, above, rows * width).ravel()]
    parent = of(parent.get(mode="fill", fill_value=-1), -1)
    return Tree(
        tokens=jnp.where(valid, of(tokens, 0), 0),
        parent=jnp.where(valid, parent, -1),
        depth=jnp.where(valid, of(depth, 1), 1),
        weight=jnp.where(valid, of(mass, 0.0), 0.0),
        valid=valid,
    )
