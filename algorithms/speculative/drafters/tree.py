"""A small model drafts a tree, grown by any rule of branching.

Each step runs the nodes of the step before in one pass of tree attention: node n is written to
slot length + n of the draft model's cache, sees the text and its ancestors, and has the
position of its depth. Nodes that cannot have children are not run. Every node is drawn from
the edited law at its parent, which is kept for the verifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.branching import Branching, Front, Step, each
from algorithms.speculative.drafters.chain import Remembered
from jaxdecode import struct
from jaxdecode.cache import Cache, put
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.drafter import Now, Outcome
from jaxdecode.follower import Standing, catch_up, charge
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, View
from jaxdecode.logits import Identity, LogitsTransform
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Sampler
from jaxdecode.types import Array, Bool, Float, Int

OWN, FIRST = 0, 1  # what a place's key is folded with: to draw, and to be its first child's


@struct.dataclass
class Growth:
    """A tree under way. Row 0 of every table is the root, row n + 1 is node n.

    Attributes:
      used: i32[B], places taken; those past it may be taken over.
      newest: i32[B], how many of them the last step took; 0 once a row is full.
      going: bool[], whether any row still grows.
      open: places that may have children.
      ran: places that the draft model has run.
      logprob: of the path, under the draft model.
      key: data of the places' keys.
      logq, edits: log-laws and the transform's states at the R places that may be run.
    """

    used: Int[Array, "B"]
    newest: Int[Array, "B"]
    going: Bool[Array, ""]
    token: Int[Array, "B Np1"]
    parent: Int[Array, "B Np1"]
    depth: Int[Array, "B Np1"]
    seen: Bool[Array, "B Np1 N"]
    valid: Bool[Array, "B Np1"]
    open: Bool[Array, "B Np1"]
    ran: Bool[Array, "B Np1"]
    logprob: Float[Array, "B Np1"]
    key: Array
    logq: Float[Array, "B R V"]
    edits: Any
    cache: Cache
    memory: Any
    spent: Spent


@struct.dataclass
class Tree:
    """A draft model that draws a tree.

    Attributes:
      model: the draft model, of the target's vocabulary.
      branching: which children to draw.
      transform, sampler: the law of a child, of which the sampler states the probabilities.
    """

    model: LanguageModel
    branching: Branching
    transform: LogitsTransform = Identity()
    sampler: Sampler = Categorical()

    drawn = True

    @property
    def nodes(self) -> int:
        return self.branching.nodes

    @property
    def depth(self) -> int:
        return self.branching.depth

    @property
    def replacement(self) -> bool:
        return self.branching.replacement

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def laws(self) -> int:
        """Rows that can come to be run: the root and whatever the last step does not add."""
        return 1 + min(self.nodes - 1, sum(step.width for step in self.branching.steps[:-1]))

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Remembered:
        return Remembered.of(self.model, self.transform, prompt, room, capacity, self.nodes)

    def propose(
        self, target: LanguageModel, state: Remembered, now: Now
    ) -> tuple[Draft, Remembered]:
        going = now.active & (now.limit > 0)
        standing = catch_up(self.model, state.follower, going)
        growth = self.root(standing, state.transform, now, going)
        first, *later = self.branching.steps
        growth = self.branch(growth, now, 1, first)
        for width, step, count in runs(first, later):

            def body(carry, width=width, step=step):
                index, growth = carry
                return index + 1, self.branch(self.run(growth, width), now, width, step)

            def more(carry, count=count):
                return (carry[0] < count) & carry[1].going

            _, growth = jax.lax.while_loop(more, body, (jnp.zeros((), jnp.int32), growth))
        shape = Shape(growth.parent[:, 1:], growth.depth[:, 1:], growth.seen[:, 1:])
        draft = Draft(
            tokens=growth.token[:, 1:],
            shape=shape,
            valid=growth.valid[:, 1:],
            spent=growth.spent,
            logq=growth.logq,
            source=jnp.clip(shape.parent + 1, 0, self.laws - 1),
        )
        follower = replace(state.follower, cache=growth.cache)
        return draft, replace(
            state, follower=follower, stood=standing.cache.length, ran=growth.ran[:, 1:]
        )

    def root(self, standing: Standing, edits: Any, now: Now, going: Bool[Array, "B"]) -> Growth:
        """The tree before its first step."""
        batch, places = now.root.shape[0], self.nodes + 1

        def table(root: Array, rows: int = places) -> Array:
            blank = jnp.zeros((batch, rows, *root.shape[1:]), root.dtype)
            return put(blank, jnp.zeros((batch, 1), jnp.int32), root[:, None])

        zero = jnp.zeros((batch,), jnp.int32)
        law = self.sampler.distribution(self.transform.apply(edits, standing.logits))
        return Growth(
            used=zero,
            newest=zero + 1,
            going=jnp.any(going),
            token=table(zero),
            parent=table(zero - 1),
            depth=table(zero),
            seen=jnp.zeros((batch, places, self.nodes), bool),
            valid=table(going),
            open=table(going),
            ran=table(going),
            logprob=table(zero.astype(jnp.float32)),
            key=table(jax.random.key_data(stream(now.key, 0))),
            logq=table(jnp.log(law), self.laws),
            edits=jax.tree.map(lambda x: table(x, self.laws), edits),
            cache=standing.cache,
            memory=self.branching.init(batch),
            spent=standing.spent,
        )

    def branch(self, growth: Growth, now: Now, width: int, step: Step) -> Growth:
        """Add children of the last `width` places."""
        place = jnp.arange(width)
        row = (growth.used + 1 - growth.newest)[:, None] + place
        live = (place < growth.newest[:, None]) & rows(growth.open, row)
        key = jax.random.wrap_key_data(growth.key)
        front = Front(
            row=row,
            logq=rows(growth.logq, row),
            logprob=rows(growth.logprob, row),
            open=live,
            key=each(jax.vmap(jax.random.fold_in), rows(key, row), jnp.full_like(row, OWN)),
        )
        memory, new = self.branching(growth.memory, front, step)
        order = jnp.arange(new.token.shape[1])
        free = growth.used[:, None] + order < self.nodes
        valid = new.valid & rows(growth.open, new.source) & free
        count = jnp.max(jnp.where(valid, order + 1, 0), axis=1)
        used = growth.used + count
        at = jnp.where(order < count[:, None], growth.used[:, None] + order + 1, self.nodes + 1)
        depth = rows(growth.depth, new.source) + 1
        limit = jnp.minimum(now.limit, self.depth)
        own = (at - 1)[..., None] == jnp.arange(self.nodes)
        chosen = jnp.take_along_axis(rows(growth.logq, new.source), new.token[..., None], axis=2)
        keys = each(jax.vmap(jax.random.fold_in), rows(key, new.source), FIRST + new.rank)
        return replace(
            growth,
            used=used,
            newest=jnp.where(used < self.nodes, count, 0),
            going=jnp.any((count > 0) & (used < self.nodes)),
            token=put(growth.token, at, new.token),
            parent=put(growth.parent, at, new.source - 1),
            depth=put(growth.depth, at, depth),
            seen=put(growth.seen, at, rows(growth.seen, new.source) | own),
            valid=put(growth.valid, at, valid),
            open=put(growth.open, at, valid & (depth < limit[:, None]) & (at < self.laws)),
            logprob=put(growth.logprob, at, rows(growth.logprob, new.source) + chosen[..., 0]),
            key=put(growth.key, at, jax.random.key_data(keys)),
            memory=memory,
        )

    def run(self, growth: Growth, width: int) -> Growth:
        """The draft model at the last `width` places."""
        place = jnp.arange(width)
        row = (growth.used + 1 - growth.newest)[:, None] + place
        live = (place < growth.newest[:, None]) & rows(growth.open, row)
        cache, depth, token = growth.cache, rows(growth.depth, row), rows(growth.token, row)
        node = jnp.arange(cache.capacity) - cache.length[:, None]  # [B, S]
        inside = (node >= 0) & (node < self.nodes)
        node = jnp.clip(node, 0, self.nodes - 1)[:, None]
        seen = jnp.take_along_axis(rows(growth.seen, row), node, axis=2) & inside[:, None]
        view = View(
            position=cache.length[:, None] + depth - 1,
            start=cache.length + row[:, 0] - 1,
            prefix=cache.length,
            valid=live,
            block=jnp.broadcast_to(jnp.eye(width, dtype=bool), (len(live), width, width)),
            beyond=seen,
        )
        output = self.model(token, cache, view)
        above = rows(growth.parent, row) + 1
        edits = jax.tree.map(lambda x: rows(x, above), growth.edits)
        edits = places(self.transform.observe)(edits, token, live)
        logits = places(self.transform.apply)(edits, output.logits)
        law = places(self.sampler.distribution)(logits)
        at = jnp.where(live, row, self.laws)
        count = jnp.sum(live, axis=1)
        attended = jnp.sum(jnp.where(live, cache.length[:, None] + depth, 0), axis=1)
        return replace(
            growth,
            ran=put(growth.ran, jnp.where(live, row, self.nodes + 1), live),
            logq=put(growth.logq, at, jnp.log(law)),
            edits=jax.tree.map(lambda x, y: put(x, at, y), growth.edits, edits),
            cache=output.cache,
            spent=charge(growth.spent, self.model, count, attended),
        )

    def commit(
        self, target: LanguageModel, state: Remembered, draft: Draft, outcome: Outcome
    ) -> Remembered:
        return state.learn(self.transform, draft, outcome)


def runs(first: Step, later: list[Step]) -> Iterator[tuple[int, Step, int]]:
    """(places of the step before, step, how often) of steps that can share a loop."""
    before = (first, *later)
    pairs = zip((step.width for step in before), later, strict=False)
    for (width, step), group in groupby(pairs):
        yield width, step, len(list(group))


def rows(table: Array, row: Int[Array, "B W"]) -> Array:
    """table[b, row[b, w]]; a row outside the table reads its nearest."""
    row = jnp.clip(row, 0, table.shape[1] - 1)
    return jax.vmap(lambda values, index: values[index])(table, row)


def places(function: Any) -> Any:
    """A function of rows, at every place of [B, W, ...]."""
    return jax.vmap(function, in_axes=1, out_axes=1)
