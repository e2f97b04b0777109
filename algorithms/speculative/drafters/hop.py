"""A draft that grows in the target's own cache, level by level, by the target's first layers.

Node n of W nodes a level sits in slot and row length + 1 + n, right behind the root: the layers
that verify find keys, values and residual streams where they expect them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, put
from jaxdecode.draft import ROOT, Spent
from jaxdecode.drafter import Now
from jaxdecode.lm import LayeredModel, View
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Hop:
    """A draft under way; its front are the nodes level * width and on.

    Attributes:
      level: i32[B], levels before the front; -1 while there is only the root.
      going: bool[B], rows whose front will have children.
      score: f32[B, N], log-probability of the path to each node.
      ran: bool[B, N], nodes that the adapter has read.
      laws: f32[B, N, V], what the tokens of a chain were drawn from, or None.
      edits: the transform's state at the front of a chain.
      stream: f32[B, N + 1, D], residual streams at root and nodes.
      deep, cache: the target's cache and the adapter's, None if it has none.
      width: static.
    """

    root: Int[Array, "B"]
    level: Int[Array, "B"]
    going: Bool[Array, "B"]
    tokens: Int[Array, "B N"]
    parent: Int[Array, "B N"]
    seen: Bool[Array, "B N N"]
    valid: Bool[Array, "B N"]
    ran: Bool[Array, "B N"]
    score: Float[Array, "B N"]
    laws: Float[Array, "B N V"] | None
    edits: Any
    stream: Float[Array, "B Np1 D"]
    deep: Cache
    cache: Cache | None
    spent: Spent
    width: int = struct.field(pytree_node=False)

    @classmethod
    def begin(
        cls,
        now: Now,
        going: Bool[Array, "B"],
        blank: Float[Array, "B D"],
        cache: Cache | None,
        width: int,
        nodes: int,
        vocab: int | None,
    ) -> Hop:
        """No node yet; `blank` is a residual stream, `vocab` that of laws to be kept."""
        zero = jnp.zeros((len(going), nodes), jnp.int32)
        return cls(
            root=now.length,
            level=zero[:, 0] - 1,
            going=going,
            tokens=zero,
            parent=zero + ROOT,
            seen=jnp.broadcast_to(jnp.eye(nodes, dtype=bool), (len(going), nodes, nodes)),
            valid=zero > 0,
            ran=zero > 0,
            score=zero.astype(jnp.float32),
            laws=None if vocab is None else jnp.zeros((len(going), nodes, vocab)),
            edits=now.transform,
            stream=jnp.zeros((len(going), nodes + 1, blank.shape[1]), blank.dtype),
            deep=now.cache,
            cache=cache,
            spent=Spent.nothing(len(going)),
            width=width,
        )

    @property
    def nodes(self) -> int:
        return self.tokens.shape[1]

    @property
    def front(self) -> Int[Array, "B W"]:
        """The nodes of the front; N and on where there is only the root."""
        front = self.level[:, None] * self.width + jnp.arange(self.width)
        return jnp.where(self.level[:, None] >= 0, front, self.nodes)

    @property
    def open(self) -> Bool[Array, "B W"]:
        """Nodes of the front that are there, on the rows that are going."""
        front = self.front
        return self.there(self.valid) & (front < self.nodes) & self.going[:, None]

    def there(self, table: Array) -> Array:
        """A table of the nodes, at the front."""
        index = jnp.minimum(self.front, self.nodes - 1)
        return jnp.take_along_axis(table, index.reshape(*index.shape, *[1] * (table.ndim - 2)), 1)

    def beyond(self, capacity: int) -> Bool[Array, "B W S"]:
        """Slots past the root's that the front sees."""
        node = jnp.arange(capacity) - self.root[:, None] - 1
        inside = (node >= 0) & (node < self.nodes)
        node = jnp.clip(node, 0, self.nodes - 1)[:, None]
        return jnp.take_along_axis(self.there(self.seen), node, axis=2) & inside[:, None]

    def view(self, capacity: int) -> View:
        """The front as new tokens of a cache."""
        batch, eye = len(self.going), jnp.eye(self.width, dtype=bool)
        position = (self.root + 1 + self.level)[:, None]
        return View(
            position=jnp.broadcast_to(position, (batch, self.width)),
            start=self.root + 1 + self.front[:, 0],
            prefix=self.root + 1,
            valid=self.open,
            block=jnp.broadcast_to(eye, (batch, self.width, self.width)),
            beyond=self.beyond(capacity),
        )

    def early(self, target: LayeredModel, layers: int) -> tuple[Hop, Float[Array, "B W D"]]:
        """Run the target's first layers on the open nodes of the front."""
        view = self.view(self.deep.capacity)
        early = target.embed(self.there(self.tokens), view.position)
        early, deep = target.run_layers(early, self.deep, view, 0, layers)
        assert deep is not None
        row = jnp.where(view.valid, self.front + 1, self.nodes + 1)
        return replace(self, stream=put(self.stream, row, early), deep=deep), early

    def add(
        self,
        above: Int[Array, "B W"],
        token: Int[Array, "B W"],
        score: Float[Array, "B W"],
        valid: Bool[Array, "B W"],
    ) -> Hop:
        """A level of children, on the rows that are going: it is the new front.

        `above` are their parents' places in the front, and `score` becomes theirs.
        """
        nodes, going = self.nodes, self.going[:, None]
        parent = jnp.take_along_axis(self.front, above, axis=1)
        below = (self.level[:, None] + 1) * self.width + jnp.arange(self.width)
        below = jnp.where(going, below, nodes)
        seen = jnp.take_along_axis(self.there(self.seen), above[..., None], axis=1)
        seen &= (parent < nodes)[..., None]
        seen |= below[..., None] == jnp.arange(nodes)
        return replace(
            self,
            level=self.level + self.going,
            tokens=put(self.tokens, below, token),
            parent=put(self.parent, below, jnp.where(parent < nodes, parent, ROOT)),
            seen=put(self.seen, below, seen),
            valid=put(self.valid, below, valid & going),
            score=put(self.score, below, score),
        )
