"""Drafts: the tokens that a speculating decoder guesses, and what became of them.

A draft is a tree under the root, the newest token of a row, which no model has run yet. Its N
nodes stand in an order in which parents precede children and siblings stand in the order in
which they were drawn, which is the order in which a verifier tries them. A chain is the tree
without branches. Nodes are numbered from 0, and the root is number -1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import Cache
from jaxdecode.types import Array, Bool, Float, Int

ROOT = -1


@struct.dataclass
class Shape:
    """How the nodes of a tree hang together.

    Attributes:
      parent: i32[B, N], the parent of each node, ROOT for the root's children.
      depth: i32[B, N], 1 for the root's children.
      seen: bool[B, N, N] (node, other), the node itself and its ancestors; None for a chain.
    """

    parent: Int[Array, "B N"]
    depth: Int[Array, "B N"]
    seen: Bool[Array, "B N N"] | None

    @property
    def chain(self) -> bool:
        """Whether every node is the child of the one before it, by construction."""
        return self.seen is None

    @classmethod
    def line(cls, batch: int, count: int) -> Shape:
        """A chain of `count` nodes."""
        index = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), (batch, count))
        return cls(parent=index - 1, depth=index + 1, seen=None)

    @classmethod
    def grown(cls, parent: Int[Array, "B N"], depth: int) -> Shape:
        """The tree with these parents, which is at most `depth` nodes deep.

        A node whose parent is not a node before it must be invalid in its draft.
        """
        nodes = parent.shape[1]
        own = jnp.eye(nodes, dtype=bool)
        link = parent[..., None] == jnp.arange(nodes)  # [B, N, N] (node, its parent)

        def climb(_, seen):
            above = jnp.take_along_axis(seen, jnp.maximum(parent, 0)[..., None], axis=1)
            return own | link | (above & (parent >= 0)[..., None])

        seen = jnp.broadcast_to(own, link.shape)
        seen = jax.lax.fori_loop(1, max(depth, 1), climb, seen)
        return cls(parent=parent, depth=jnp.sum(seen, axis=2, dtype=jnp.int32), seen=seen)

    @classmethod
    def fixed(cls, parent: np.ndarray, batch: int) -> Shape:
        """A tree known before the program runs, the same for every row.

        Raises:
          ValueError: if a node precedes its parent.
        """
        parent = check_parents(parent)
        nodes = len(parent)
        seen = np.eye(nodes, dtype=bool)
        for node, above in enumerate(parent):
            if above >= 0:
                seen[node] |= seen[above]
        rows = (jnp.asarray(parent, jnp.int32), jnp.asarray(seen.sum(1), jnp.int32), seen)
        return cls(*(jnp.broadcast_to(x, (batch, *x.shape)) for x in rows))


def check_parents(parent: np.ndarray) -> np.ndarray:
    """The parents of a tree, refused where a node precedes its parent."""
    parent = np.asarray(parent)
    for node, above in enumerate(parent):
        if not ROOT <= above < node:
            raise ValueError(
                f"parent[{node}]={above}: a node's parent is {ROOT} (the root) or a node before "
                "it; number the nodes from the root outwards"
            )
    return parent


def depth_of(parent: np.ndarray) -> int:
    """Nodes on the longest path of a fixed tree."""
    depth = np.zeros(len(parent) + 1, int)
    for node, above in enumerate(parent):
        depth[node] = depth[above] + 1 if above >= 0 else 1
    return int(depth.max())


@struct.dataclass
class Guess:
    """A token drafted for the place after a whole path, which no model is to run.

    Attributes:
      token: i32[B].
      logq: f32[B, V], the law it was drawn from; None if it was not drawn.
      after: i32[B], the node that it follows.
      valid: bool[B].
    """

    token: Int[Array, "B"]
    logq: Float[Array, "B V"] | None
    after: Int[Array, "B"]
    valid: Bool[Array, "B"]


@struct.dataclass
class Begun:
    """A target pass that drafting has begun: its first layers have run on root and nodes.

    Attributes:
      hidden: f32[B, N + 1, D], the residual stream after those layers.
      cache: the target's cache with their keys and values, the length not advanced.
      layers: static, how many layers have run.
    """

    hidden: Float[Array, "B Np1 D"]
    cache: Cache
    layers: int = struct.field(pytree_node=False)


@struct.dataclass
class Spent:
    """What drafting cost per row."""

    passes: Int[Array, "B"]
    tokens: Int[Array, "B"]
    flops: Float[Array, "B"]

    @classmethod
    def nothing(cls, batch: int) -> Spent:
        """What a drafter without a model spends."""
        zero = jnp.zeros((batch,), jnp.int32)
        return cls(zero, zero, zero.astype(jnp.float32))


@struct.dataclass
class Draft:
    """Tokens to be verified in one pass of the target.

    Attributes:
      tokens: i32[B, N].
      shape: their tree.
      valid: bool[B, N], nodes that are there; the ancestors of a valid node are valid, and in
        a chain the valid nodes come first.
      logq: f32[B, Q, V], log-laws that nodes were drawn from, at least one; None for tokens
        that were chosen, not drawn.
      source: i32[B, N], the row of `logq` that each node was drawn from. Siblings share one.
      candidate: bool[B, N] or None for all: nodes that may be accepted. The others are run for
        what the target says there.
      guess: see `Guess`.
      begun: see `Begun`.
      spent: the cost of drafting.
    """

    tokens: Int[Array, "B N"]
    shape: Shape
    valid: Bool[Array, "B N"]
    spent: Spent
    logq: Float[Array, "B Q V"] | None = None
    source: Int[Array, "B N"] | None = None
    candidate: Bool[Array, "B N"] | None = None
    guess: Guess | None = None
    begun: Begun | None = None

    @property
    def nodes(self) -> int:
        return self.tokens.shape[1]

    @property
    def eligible(self) -> Bool[Array, "B N"]:
        """Nodes that may be accepted."""
        return self.valid if self.candidate is None else self.valid & self.candidate

    def limited(self, depth: Int[Array, "B"]) -> Draft:
        """Without the nodes below `depth`, whatever they are."""
        return replace(self, valid=self.valid & (self.shape.depth <= depth[:, None]))

    def merged(self) -> Draft:
        """The same draft with one line of descent for each sequence of tokens.

        Drafts drawn with replacement repeat siblings. Every node keeps its place and its turn,
        but the children of a repeated node become children of the first of its kind, so that
        accepting one opens the continuations of all.
        """
        parent, tokens = self.shape.parent, self.tokens
        nodes = jnp.arange(self.nodes)

        def tops(first):
            above = jnp.take_along_axis(first, jnp.maximum(parent, 0), axis=1)
            return jnp.where(parent < 0, ROOT, above)

        def step(first, node):
            top = tops(first)
            here = jax.tree.map(lambda x: x[:, node, None], (top, tokens, self.eligible))
            twin = (top == here[0]) & (tokens == here[1]) & self.eligible & here[2]
            twin &= nodes < node
            found = jnp.where(jnp.any(twin, axis=1), jnp.argmax(twin, axis=1), node)
            return first.at[:, node].set(found.astype(first.dtype)), None

        first = jnp.broadcast_to(nodes.astype(jnp.int32), tokens.shape)
        first, _ = jax.lax.scan(step, first, nodes)
        return replace(self, shape=replace(self.shape, parent=tops(first)))


@struct.dataclass
class Verdict:
    """What the target made of a draft.

    Attributes:
      path: i32[B, P], the accepted nodes from the root outwards; what stands at and past
        `count` does not matter.
      count: i32[B], how many were accepted.
      next: i32[B], the token after them: a correction or a bonus; -1 where none can be drawn.
      guessed: bool[B], whether `next` is the draft's accepted guess.
    """

    path: Int[Array, "B P"]
    count: Int[Array, "B"]
    next: Int[Array, "B"]
    guessed: Bool[Array, "B"]


def at(array: Array, index: Int[Array, "B"]) -> Any:
    """array[b, index[b]]; an index of ROOT or past the end reads the nearest entry."""
    index = jnp.clip(index, 0, array.shape[1] - 1)
    index = index.reshape(-1, *[1] * (array.ndim - 1))
    return jnp.take_along_axis(array, index, axis=1)[:, 0]
