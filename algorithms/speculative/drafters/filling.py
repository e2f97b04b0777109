"""A static tree filled level by level from the laws that a table holds of contexts.

Every inner node looks up the longest context that is known, the tokens of its path included,
and its children take tokens of that law: drawn without replacement where there is noise, the
r-th drawn for the child of rank r, or else the likeliest. Where there are fewer tokens than
children, the last children are missing.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.draft import ROOT
from jaxdecode.ngram.laws import longest
from jaxdecode.ngram.table import FREE, Table
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Filled:
    """A tree under way; index 0 is the root, node n is n + 1, and the last takes what is spare.

    Attributes:
      level: i32[].
      tokens: i32[B, N + 2].
      newest: i32[B, N + 2, n], the tokens up to each.
      valid: bool[B, N + 2].
      logq: f32[B, Q, V], the law of each inner node; None without noise.
    """

    level: Int[Array, ""]
    tokens: Int[Array, "B Np2"]
    newest: Int[Array, "B Np2 n"]
    valid: Bool[Array, "B Np2"]
    logq: Float[Array, "B Q V"] | None


def inner_nodes(tree: tuple[int, ...]) -> np.ndarray:
    """The nodes that have children, ROOT among them, in order."""
    return np.unique(np.array(tree))


def fill(
    tree: tuple[int, ...],
    table: Table,
    orders: tuple[int, ...],
    newest: Int[Array, "B n"],
    active: Bool[Array, "B"],
    noise: Float[Array, "B Q K"] | None,
    vocab: int,
) -> Filled:
    """The tokens of the tree's nodes.

    Args:
      tree: parents of the nodes, level by level.
      table: of P prompts, whose rows follow one another.
      orders: lengths of contexts, falling; n is the first.
      newest: the newest tokens of the rows.
      noise: Gumbel noise for every token of the laws of the Q inner nodes.
      vocab: tokens that a dense law has.
    """
    plan, child, inner = layout(tree)
    (batch, size), nodes, spare = newest.shape, len(tree), len(tree) + 1
    rows = jnp.arange(batch)[:, None, None]

    def standing(level: Int[Array, ""]) -> tuple[Array, Array]:
        """The inner nodes of a level, by their number and by their place in the tree."""
        number = jnp.asarray(plan)[level]
        return number, jnp.asarray(inner).at[number].get(mode="fill", fill_value=spare)

    def descend(state: Filled) -> Filled:
        number, place = standing(state.level)
        held = state.newest[:, place]  # [B, W, n]
        law = longest(table, held.reshape(table.count.shape[0], -1, size), orders)
        tokens, mass = (x.reshape(*held.shape[:2], -1) for x in (law.tokens, law.values))
        total = jnp.sum(mass, axis=2, keepdims=True)
        score = logq = jnp.log(mass / jnp.where(total > 0, total, 1.0))
        laws = state.logq
        if noise is not None and laws is not None:
            score += noise.at[:, number].get(mode="fill", fill_value=0.0)
            slot = jnp.where(tokens == FREE, vocab, tokens)
            laws = laws.at[rows, number[None, :, None], slot].set(logq, mode="drop")
        below = jnp.asarray(child).at[number].get(mode="fill", fill_value=spare)
        order = jnp.argsort(-score, axis=2, stable=True)[:, :, : below.shape[1]]
        drawn = jnp.take_along_axis(tokens, order, axis=2)
        there = jnp.take_along_axis(mass, order, axis=2) > 0
        there &= state.valid[:, place, None] & (below <= nodes)
        longer = jnp.broadcast_to(held[:, :, None, 1:], (*drawn.shape, size - 1))
        spots = (rows, below[None])
        return Filled(
            level=state.level + 1,
            tokens=state.tokens.at[spots].set(drawn),
            newest=state.newest.at[spots].set(jnp.concatenate([longer, drawn[..., None]], 3)),
            valid=state.valid.at[spots].set(there),
            logq=laws,
        )

    def more(state: Filled) -> Bool[Array, ""]:
        _, place = standing(state.level)
        return (state.level < len(plan)) & jnp.any(state.valid[:, place])

    places = (batch, nodes + 2)
    start = Filled(
        level=jnp.zeros((), jnp.int32),
        tokens=jnp.zeros(places, jnp.int32),
        newest=jnp.full((*places, size), FREE).at[:, 0].set(newest),
        valid=jnp.zeros(places, bool).at[:, 0].set(active),
        logq=None if noise is None else jnp.full((batch, len(inner), vocab), -jnp.inf),
    )
    return jax.lax.while_loop(more, descend, start)


@cache
def layout(tree: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How to fill a tree level by level; the root is 0, node n is n + 1.

    Returns:
      plan: [levels, W], which inner nodes stand on each level; past the end where fewer do.
      child: [Q, C], the children of each inner node by rank; N + 1 where there are fewer.
      inner: [Q], the inner nodes in order.
    """
    above, inner = np.array(tree) + 1, inner_nodes(tree) - ROOT
    depth = np.zeros(len(tree) + 1, int)
    for node, parent in enumerate(above):
        depth[node + 1] = depth[parent] + 1
    child = np.full((len(inner), np.bincount(above).max()), len(tree) + 1)
    for place, parent in enumerate(inner):
        children = np.flatnonzero(above == parent) + 1
        child[place, : len(children)] = children
    level = depth[inner]
    plan = np.full((level.max() + 1, np.bincount(level).max()), len(inner))
    for number in range(len(plan)):
        places = np.flatnonzero(level == number)
        plan[number, : len(places)] = places
    return plan, child, inner
