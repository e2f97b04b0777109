"""The strategy of A*-decoding: which node of a search over steps to expand next.

    h(s) = 1 - r(s),   g(s') = g(s) + max(0, r(s) - r(s')),   f = g + h

The open node with the least f is popped; ties go to the larger r, then the deeper node, then the
older. See `algorithms.search.a_star_decoding`.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.arena import Choice
from jaxdecode.cache import put
from jaxdecode.frontier import least
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.process_reward import Aggregation, aggregate
from jaxdecode.result import Status
from jaxdecode.types import Array, Bool, Float, Int, Key


@struct.dataclass
class Ledger:
    """What A* knows of its nodes, and its trace.

    Attributes:
      score: f32[B, N], r, combined along the path.
      cost: f32[B, N], g.
      popped: i32[B, E], nodes in the order in which they were popped, NONE beyond.
      pops: i32[B], how many.
      answer: i32[B], the complete node that was popped; NONE before.
      chain: i32[B], the node under greedy completion; NONE for none.
    """

    score: Float[Array, "B N"]
    cost: Float[Array, "B N"]
    popped: Int[Array, "B E"]
    pops: Int[Array, "B"]
    answer: Int[Array, "B"]
    chain: Int[Array, "B"]


@struct.dataclass
class Frontier:
    """The strategy: see the module. Attributes as those of `AStar`."""

    children: int = struct.field(pytree_node=False)
    expansions: int = struct.field(pytree_node=False)
    aggregation: Aggregation = struct.field(pytree_node=False)
    frontier: bool = struct.field(pytree_node=False)
    costs: bool = struct.field(pytree_node=False)
    root: Float[Array, ""] | float
    tokens: Int[Array, ""] | int

    @property
    def lanes(self) -> int:
        return self.children

    def init(self, arena: Arena) -> Ledger:
        batch, nodes = arena.depth.shape
        none = jnp.full((batch,), NONE, jnp.int32)
        return Ledger(
            score=jnp.ones((batch, nodes), jnp.float32),
            cost=jnp.zeros((batch, nodes), jnp.float32),
            popped=jnp.full((batch, self.expansions + 1), NONE, jnp.int32),
            pops=none + 1,
            answer=none,
            chain=none,
        )

    def promise(self, arena: Arena, note: Ledger) -> tuple[Array, tuple[Array, ...]]:
        """r of every node, and the keys by which the frontier is ordered."""
        score = jnp.where(arena.depth == 0, 1.0 - self.root, note.score)
        return score, (note.cost + (1.0 - score), -score, -arena.depth)

    def select(
        self, key: Key[Array, ""], arena: Arena, note: Ledger, step: Int[Array, ""]
    ) -> tuple[Choice, Ledger]:
        _, keys = self.promise(arena, note)
        complete = arena.made & (arena.status == Status.EOS)
        leaf = arena.made & ~arena.grown
        going = leaf & (arena.status == Status.RUNNING)
        opened = leaf & (complete | going)
        if not self.frontier:
            parent = jnp.take_along_axis(
                arena.path, jnp.maximum(arena.depth - 1, 0)[..., None], axis=2
            )[..., 0]
            last = jnp.take_along_axis(note.popped, jnp.maximum(note.pops - 1, 0)[:, None], 1)
            opened &= (parent == last) | (note.pops[:, None] == 0)
        node = least(opened, *keys)
        over = (note.pops >= self.expansions) | (arena.usage.emitted >= self.tokens)
        found = ~over & (node >= 0) & (look(arena.status, node[:, None])[:, 0] == Status.EOS)
        # A completion under way goes on; a new one begins where the budget left no answer.
        closing = over & ~jnp.any(complete, axis=1)
        under_way = look(arena.status, note.chain[:, None])[:, 0] == Status.RUNNING
        chain = jnp.where((note.chain >= 0) & under_way, note.chain, least(going, *keys))
        chain = jnp.where(closing & ~self._closed(arena, note), chain, note.chain)
        done = found | jnp.where(over, ~closing | self._closed(arena, note), node < 0)
        done |= closing & (chain < 0)
        lanes = jnp.arange(self.children)
        alone = jnp.where(lanes == 0, chain[:, None], NONE)
        parents = jnp.where(closing[:, None], alone, node[:, None])
        popping = ~over & (node >= 0)
        place = jnp.where(popping, note.pops, note.popped.shape[1])
        note = replace(
            note,
            popped=put(note.popped, place[:, None], node[:, None]),
            pops=note.pops + popping,
            answer=jnp.where(found, node, note.answer),
            chain=chain,
        )
        return Choice(
            jnp.broadcast_to(parents, (node.shape[0], self.children)), closing, done
        ), note

    def _closed(self, arena: Arena, note: Ledger) -> Bool[Array, "B"]:
        """Whether a greedy completion has come to its end."""
        status = look(arena.status, note.chain[:, None])[:, 0]
        return (note.chain >= 0) & ((status == Status.EOS) | (status == Status.LENGTH))

    def backup(self, arena: Arena, note: Ledger, fresh: Fresh, child: Int[Array, "B K"]) -> Ledger:
        before = look(self.promise(arena, note)[0], fresh.parent)
        score = aggregate(
            self.aggregation,
            look(note.score, fresh.parent),
            look(arena.reward, child),
            look(arena.depth, child),
        )
        fall = jnp.maximum(0.0, before - score) if self.costs else jnp.zeros_like(score)
        at = jnp.where(child >= 0, child, arena.depth.shape[1])
        closing = (note.chain >= 0) & (note.chain == fresh.parent[:, 0])
        return replace(
            note,
            score=put(note.score, at, score),
            cost=put(note.cost, at, look(note.cost, fresh.parent) + fall),
            chain=jnp.where(closing, child[:, 0], note.chain),
        )

    def answer(self, arena: Arena, note: Ledger) -> Int[Array, "B"]:
        """The node to return: see the module; 0 where no step could be taken."""
        _, keys = self.promise(arena, note)
        made = arena.made & (arena.depth > 0)
        best = least(made & (arena.status == Status.RUNNING), *keys)
        for status in (Status.LENGTH, Status.EOS):
            found = least(made & (arena.status == status), *keys)
            best = jnp.where(found >= 0, found, best)
            if status == Status.LENGTH:
                best = jnp.where(self._closed(arena, note), note.chain, best)
        return jnp.maximum(jnp.where(note.answer >= 0, note.answer, best), 0)
