"""The tree of a Monte-Carlo search over tokens: visits, values, priors, completions; P-UCB.

A node is a text, an edge one of its k most probable next tokens. With Q the largest reward that
came back over an edge, P its prior, N visits of a node, from 1 on, and n those of an edge, a
descent takes the edge of the largest

    "p-ucb"   Q + beta(N) P sqrt(log N) / (1 + n),  beta(N) = log((N + c_base + 1) / c_base) + c
    "p-uct"   Q + c P sqrt(log N) / (1 + n)
    "uct"     Q + c sqrt(log N) / (1 + n)

the first of equals, which has the largest prior (Zhang et al. 2023, arXiv 2303.05510). The log
stands inside the root: at its first visit a node is left by its most probable token.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from algorithms.search.texts import Ahead, Text
from jaxdecode import struct
from jaxdecode.nodes import NONE, Arena, look
from jaxdecode.result import Status
from jaxdecode.types import Array, Bool, Float, Int

TOP = 1  # the node of the prompt's last token, the root of the tree
Bandit = Literal["p-ucb", "p-uct", "uct"]


@struct.dataclass
class Tree:
    """What a search knows of its nodes, and its trace.

    Attributes:
      visits: f32[B, N], N(s).
      edges: of a node's k edges, [B, N, k]; see `Ahead`.
      count, value: f32[B, N, k], n and Q.
      child: i32[B, N, k], the node behind an edge, NONE before.
      edge: i32[B, N], by which of its parent's edges a node is reached.
      text: of every node, its completion; INVALID before.
      leaf: i32[B], the node that was last evaluated; `trail` i32[B, R] those of all rollouts.
      known: i32[B], the node whose completion the new one shares; NONE for none.
      generations: i32[B], completions that the model wrote; `when` i32[B, N] those until a node
        was made, its own included.
      looked: i32[B], nodes that were run for their priors, in a call of their own or not.
    """

    visits: Float[Array, "B N"]
    edges: Ahead
    count: Float[Array, "B N k"]
    value: Float[Array, "B N k"]
    child: Int[Array, "B N k"]
    edge: Int[Array, "B N"]
    text: Text
    leaf: Int[Array, "B"]
    trail: Int[Array, "B R"]
    known: Int[Array, "B"]
    generations: Int[Array, "B"]
    when: Int[Array, "B N"]
    looked: Int[Array, "B"]

    @classmethod
    def start(cls, arena: Arena, branch: int, rollouts: int) -> Tree:
        batch, nodes, longest = arena.tokens.shape
        edges = jnp.zeros((batch, nodes, branch), jnp.float32)
        ahead = jnp.zeros((batch, nodes, longest, branch), jnp.float32)
        none = jnp.full((batch,), NONE, jnp.int32)
        text = Text(
            jnp.zeros_like(arena.tokens),
            jnp.zeros_like(arena.length),
            jnp.full((batch, nodes), Status.INVALID, jnp.int32),
            jnp.zeros((batch, nodes), jnp.float32),
            Ahead(ahead.astype(jnp.int32), ahead, ahead),
        )
        return cls(
            visits=jnp.ones((batch, nodes), jnp.float32),
            edges=Ahead(edges.astype(jnp.int32), edges, edges),
            count=edges,
            value=edges,
            child=edges.astype(jnp.int32) + NONE,
            edge=jnp.zeros((batch, nodes), jnp.int32),
            text=text,
            leaf=none,
            trail=jnp.full((batch, rollouts), NONE, jnp.int32),
            known=none,
            generations=none + 1,
            when=jnp.zeros((batch, nodes), jnp.int32),
            looked=none + 1,
        )


@struct.dataclass
class Selection:
    """How a descent chooses: `rule` is static; `weight` and `base` are c and c_base."""

    rule: Bandit = struct.field(pytree_node=False)
    weight: Float[Array, ""] | float
    base: Float[Array, ""] | float

    def scores(self, tree: Tree, node: Int[Array, "B"]) -> Float[Array, "B k"]:
        """Of a node's edges."""

        def at(array: Array) -> Array:
            return look(array, node[:, None])[:, 0]

        visits, explore = at(tree.visits)[:, None], self.weight
        if self.rule == "p-ucb":
            explore = jnp.log((visits + self.base + 1) / self.base) + self.weight
        if self.rule != "uct":
            explore = explore * at(tree.edges.prior)
        return at(tree.value) + explore * jnp.sqrt(jnp.log(visits)) / (1 + at(tree.count))

    def descend(self, arena: Arena, tree: Tree) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
        """The node where a rollout leaves the tree, and by which edge; NONE where the text ends."""

        def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            node, edge, going = carry
            best = jnp.argmax(self.scores(tree, node), axis=1).astype(jnp.int32)
            child = look(tree.child, node[:, None])[:, 0]
            child = jnp.take_along_axis(child, best[:, None], axis=1)[:, 0]
            node, edge = jnp.where(going & (child >= 0), child, node), jnp.where(going, best, edge)
            on = look(arena.status, node[:, None])[:, 0] == Status.RUNNING
            edge = jnp.where(going & ~on, NONE, edge)
            return node, edge, going & (child >= 0) & on

        start = jnp.full_like(tree.leaf, TOP)
        carry = (start, jnp.zeros_like(start), jnp.ones_like(start, bool))
        node, edge, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[2]), step, carry)
        return node, edge


def back_up(
    arena: Arena, tree: Tree, leaf: Int[Array, "B"], active: Bool[Array, "B"]
) -> tuple[Array, Array, Array]:
    """Visits, counts and values after a leaf's reward went up its path, where `active`."""
    count, rows = arena.depth.shape[1], jnp.arange(leaf.shape[0])[:, None]
    reward = look(arena.reward, leaf[:, None])
    path = look(arena.path, leaf[:, None])[:, 0]
    walked = (path > 0) & active[:, None]
    visited = jnp.where(walked, path, count)
    below = jnp.where(walked[:, 1:] & (path[:, 1:] > TOP), path[:, :-1], count)
    at = (rows, below, look(tree.edge, path[:, 1:]))
    return (
        tree.visits.at[rows, visited].add(1.0, mode="drop"),
        tree.count.at[at].add(1.0, mode="drop"),
        tree.value.at[at].max(reward, mode="drop"),
    )
