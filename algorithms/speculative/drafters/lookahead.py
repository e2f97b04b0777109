"""Lookahead decoding: guesses at later places are refined beside the text, and reused.

Fu et al. 2024, arXiv:2402.02057. A window of n - 1 levels by W columns runs in every pass. Its
first level goes on from the root, one token a column; on each of the others a column holds
what the target said below it a pass before, so that the target's answers to the last level
complete W n-grams, those of parallel Jacobi iterations. They are kept in a pool under their
first token, and those under the root are drafted. Window nodes are run and never accepted.

The window starts as tokens of the prompt, in turn. The newest use decides what a full pool
forgets.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.draft import ROOT, Draft, Shape
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel
from jaxdecode.ngram.trie import Continuations, grow
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Pool:
    """n-grams under their first tokens, G for each of V.

    Attributes:
      grams: i32[B, V, G, n - 1], what followed.
      used: i32[B, V, G], when it was seen last; 0 marks a free place.
      clock: i32[B].
    """

    grams: Int[Array, "B V G nm1"]
    used: Int[Array, "B V G"]
    clock: Int[Array, "B"]

    def add(
        self, first: Int[Array, "B"], rest: Int[Array, "B nm1"], valid: Bool[Array, "B"]
    ) -> Pool:
        """Note one n-gram a row; it takes the place that was used longest ago."""
        rows = jnp.arange(first.shape[0])
        held, used = self.grams[rows, first], self.used[rows, first]
        same = jnp.all(held == rest[:, None], axis=2) & (used > 0)
        place = jnp.where(jnp.any(same, 1), jnp.argmax(same, 1), jnp.argmin(used, 1))
        at = (rows, jnp.where(valid, first, self.used.shape[1]), place)
        return Pool(
            grams=self.grams.at[at].set(rest, mode="drop"),
            used=self.used.at[at].set(self.clock + 1, mode="drop"),
            clock=self.clock + valid,
        )


@struct.dataclass
class Glimpsed:
    """What the drafter remembers.

    Attributes:
      root: i32[B], as of the newest draft.
      window: i32[B, n - 1, W]; column 0 of level 0 is the root's place and not used.
      pool: see `Pool`.
    """

    root: Int[Array, "B"]
    window: Int[Array, "B nm1 W"]
    pool: Pool


@struct.dataclass
class Lookahead:
    """Drafts n-grams that the target wrote in its window.

    Attributes:
      vocab_size: static.
      window: static, W, columns.
      size: static, n, tokens of an n-gram.
      guesses: static, G, n-grams kept and drafted for each first token.
    """

    vocab_size: int = struct.field(pytree_node=False)
    window: int = struct.field(pytree_node=False, default=15)
    size: int = struct.field(pytree_node=False, default=5)
    guesses: int = struct.field(pytree_node=False, default=15)

    drawn = False

    def __post_init__(self) -> None:
        if self.size < 3 or self.window < 1 or self.guesses < 1:
            raise ValueError(
                f"size={self.size}, window={self.window}, guesses={self.guesses}: n-grams have "
                "at least 3 tokens, and there is at least one column and one guess"
            )

    @property
    def candidates(self) -> int:
        """Nodes that may be accepted; they come first."""
        return self.guesses * (self.size - 1)

    @property
    def nodes(self) -> int:
        return self.candidates + self.window * (self.size - 1) - 1

    @property
    def depth(self) -> int:
        """Of what may be accepted."""
        return self.size - 1

    @property
    def parents(self) -> np.ndarray:
        """Of the window's nodes, numbered by level and column from 0 on, the root left out."""
        wide = self.window
        number = np.arange(wide * (self.size - 1)).reshape(-1, wide) - 1
        first = np.concatenate([[ROOT], number[0, :-1]])
        return np.concatenate([first[None], number[:-1]]).reshape(-1)[1:]

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Glimpsed:
        batch, levels = prompt.batch, self.size - 1
        index = jnp.arange(levels * self.window) % prompt.length[:, None]
        window = jnp.take_along_axis(prompt.tokens, index, axis=1)
        last = jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)[:, 0]
        places = (batch, self.vocab_size, self.guesses)
        pool = Pool(
            grams=jnp.zeros((*places, levels), jnp.int32),
            used=jnp.zeros(places, jnp.int32),
            clock=jnp.zeros((batch,), jnp.int32),
        )
        return Glimpsed(last, window.reshape(batch, levels, self.window), pool)

    def propose(self, target: LanguageModel, state: Glimpsed, now: Now) -> tuple[Draft, Glimpsed]:
        rows = jnp.arange(now.root.shape[0])
        used = state.pool.used[rows, now.root] > 0
        known = Continuations(state.pool.grams[rows, now.root], used.astype(jnp.float32))
        drafts = grow(known, self.candidates).draft(now.active, self.depth)
        tokens = state.window.reshape(len(rows), -1)[:, 1:]
        here = jnp.broadcast_to(now.active[:, None], tokens.shape)
        candidate = jnp.arange(self.nodes) < self.candidates
        draft = replace(
            drafts,
            tokens=jnp.concatenate([drafts.tokens, tokens], axis=1),
            shape=beside(drafts.shape, Shape.fixed(self.parents, len(rows))),
            valid=jnp.concatenate([drafts.valid, here], axis=1),
            candidate=jnp.broadcast_to(candidate, (len(rows), self.nodes)),
        )
        return draft, replace(state, root=jnp.where(now.active, now.root, state.root))

    def commit(
        self, target: LanguageModel, state: Glimpsed, draft: Draft, outcome: Outcome
    ) -> Glimpsed:
        if not draft.nodes:
            return state
        moved = (outcome.count > 0) & jnp.all(draft.valid[:, self.candidates :], axis=1)
        last = outcome.judge.logits[:, -self.window :]
        said = jnp.argmax(last, axis=2).astype(jnp.int32)
        window = state.window.at[:, 0, 0].set(state.root)
        grams = jnp.concatenate([window, said[:, None]], axis=1)  # [B, n, W]

        def note(column, pool):
            return pool.add(grams[:, 0, column], grams[:, 1:, column], moved)

        pool = jax.lax.fori_loop(0, self.window, note, state.pool)
        shifted = jnp.where(moved[:, None, None], grams[:, 1:], state.window)
        return replace(state, window=shifted, pool=pool)


def beside(left: Shape, right: Shape) -> Shape:
    """Two trees under one root, the nodes of `left` first."""
    assert left.seen is not None and right.seen is not None
    before, after = left.parent.shape[1], right.parent.shape[1]
    parent = jnp.where(right.parent == ROOT, ROOT, right.parent + before)
    upper = jnp.pad(left.seen, ((0, 0), (0, 0), (0, after)))
    lower = jnp.pad(right.seen, ((0, 0), (0, 0), (before, 0)))
    return Shape(
        parent=jnp.concatenate([left.parent, parent], axis=1),
        depth=jnp.concatenate([left.depth, right.depth], axis=1),
        seen=jnp.concatenate([upper, lower], axis=1),
    )
