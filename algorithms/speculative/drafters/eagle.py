"""A layer that drafts the target's hidden states, through a tree that grows where it is sure
(EAGLE, Li et al. 2024, arXiv 2401.15077; EAGLE-2, Li et al. 2024, arXiv 2406.16858).

From a hidden state and the token behind it the head estimates the next hidden state, of which
the target's output matrix makes a law. The `width` most probable continuations of the beam by
the product of their probabilities are the next beam; all continuations that were looked at, kept
or not, are ranked in the end and the best `budget` of them are the draft. A path is never more
probable than its beginning, so that the choice has no gaps.

The head's cache holds pairs of the text, with the target's own hidden states; drafted ones are
dropped after each round. Chosen and not drawn, the tokens carry no law: any tree is exact under
`Match`. Width 1 is a chain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.heads import along, bill, owed
from jaxdecode import struct
from jaxdecode.cache import Cache, truncate
from jaxdecode.draft import ROOT, Draft, Shape, Spent, at
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel, ModelCost, View
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import likeliest
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class FeatureHead(Protocol):
    """A module that estimates hidden states."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def cost(self) -> ModelCost: ...

    def init_cache(self, batch: int, capacity: int) -> Cache: ...

    def __call__(
        self,
        target: Any,
        feature: Float[Array, "B T D"],
        tokens: Int[Array, "B T"],
        cache: Any,
        view: View,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Estimates of the hidden states of `tokens`, from those of the tokens before them."""
        ...


@struct.dataclass
class Foreseen:
    """State of the drafter.

    Attributes:
      cache: the head's, of the pairs up to (hidden state before the root, root).
      feature: f32[B, D], the estimated hidden state of the root.
      spent: what reading the text has cost since the last draft.
    """

    cache: Cache
    feature: Float[Array, "B D"]
    spent: Spent


class Beam(NamedTuple):
    """W nodes to go on from: their tokens, the features before them, joint log-probabilities,
    places in the pool, and the slots past the text that each sees (itself not included)."""

    token: Int[Array, "B W"]
    feature: Float[Array, "B W D"]
    score: Float[Array, "B W"]
    place: Int[Array, "B W"]
    seen: Bool[Array, "B W X"]


class Pool(NamedTuple):
    """Everything that was looked at, in the order of growth; parents are places in it."""

    token: Int[Array, "B M"]
    score: Float[Array, "B M"]
    parent: Int[Array, "B M"]


@struct.dataclass
class Eagle:
    """See the module.

    Attributes:
      head: see `FeatureHead`.
      width: static; beam, and children looked at of each of its nodes.
      length: static; the most nodes on a path.
      budget: static; nodes of a draft.
    """

    head: FeatureHead
    width: int = struct.field(pytree_node=False, default=10)
    length: int = struct.field(pytree_node=False, default=6)
    budget: int = struct.field(pytree_node=False, default=59)

    drawn = False

    def __post_init__(self) -> None:
        for name in ("width", "length", "budget"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        most = self.width + (self.length - 1) * self.width**2
        if self.budget > most:
            raise ValueError(
                f"budget={self.budget}: width={self.width} and length={self.length} look at no "
                f"more than {most} nodes"
            )
        vocab = getattr(self.head, "vocab_size", None)
        if isinstance(vocab, int) and self.width > vocab:
            raise ValueError(f"width={self.width} exceeds the vocabulary of {vocab} tokens")

    @property
    def nodes(self) -> int:
        return self.budget

    @property
    def depth(self) -> int:
        return min(self.length, self.budget)

    @property
    def vocab_size(self) -> int:
        return self.head.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Foreseen:
        batch, width = prompt.tokens.shape
        state = Foreseen(
            cache=self.head.init_cache(batch, max(capacity, width) + self.arena),
            feature=jnp.zeros((batch, hidden.shape[2]), hidden.dtype),
            spent=Spent.nothing(batch),
        )
        if width == 1:
            return state
        return self.read(target, state, hidden, prompt.tokens[:, 1:], prompt.length - 1, fresh=True)

    @property
    def arena(self) -> int:
        """Slots past the text that a draft is grown in."""
        return (self.length - 1) * self.width

    def read(
        self,
        target: LanguageModel,
        state: Foreseen,
        hidden: Float[Array, "B T D"],
        tokens: Int[Array, "B T"],
        count: Int[Array, "B"],
        fresh: bool = False,
    ) -> Foreseen:
        """Take in the first `count` of T pairs of a hidden state and the token behind it."""
        cache, order = state.cache, jnp.arange(tokens.shape[1])
        view = View(
            position=cache.length[:, None] + order,
            start=cache.length,
            prefix=cache.length,
            valid=order < count[:, None],
            fresh=fresh,
        )
        found, filled = self.head(target, hidden, tokens, cache, view)
        assert filled is not None
        attended = count * cache.length + count * (count + 1) // 2
        return Foreseen(
            cache=truncate(filled, cache.length + count),
            feature=jnp.where((count > 0)[:, None], at(found, count - 1), state.feature),
            spent=bill(state.spent, self.head.cost, count, attended),
        )

    def propose(self, target: LanguageModel, state: Foreseen, now: Now) -> tuple[Draft, Foreseen]:
        going = now.active & (now.limit > 0)
        pool, _, cache, spent = self.grow(target, state, going)
        draft = self.chosen(pool, going)
        draft = replace(draft, spent=owed(spent, going))
        return draft, replace(state, cache=cache, spent=owed(state.spent, ~going))

    def grow(
        self, target: LanguageModel, state: Foreseen, going: Bool[Array, "B"]
    ) -> tuple[Pool, Float[Array, "B V"], Cache, Spent]:
        """The pool, the log-law of the first draft token, and what growing leaves and costs."""
        batch, width, length = going.shape[0], self.width, state.cache.length
        logp = jax.nn.log_softmax(target.unembed(state.feature))
        score, token = likeliest(logp, width, "width")
        index = jnp.broadcast_to(jnp.arange(width), (batch, width))
        first = Pool(token, score, jnp.full((batch, width), ROOT, jnp.int32))
        beam = Beam(
            token=token,
            feature=jnp.broadcast_to(
                state.feature[:, None], (batch, width, state.feature.shape[1])
            ),
            score=score,
            place=index,
            seen=jnp.zeros((batch, width, self.arena), bool),
        )

        def level(carry: tuple[Beam, Cache, Spent], step: Array):
            beam, cache, spent = carry
            slots = jnp.arange(cache.capacity) - length[:, None]  # [B, S]
            inside = (slots >= 0) & (slots < self.arena)
            slots = jnp.clip(slots, 0, self.arena - 1)[:, None]
            view = View(
                position=jnp.broadcast_to(length[:, None] + step, (batch, width)),
                start=length + step * width,
                prefix=length,
                valid=jnp.broadcast_to(going[:, None], (batch, width)),
                block=jnp.broadcast_to(jnp.eye(width, dtype=bool), (batch, width, width)),
                beyond=jnp.take_along_axis(beam.seen, slots, axis=2) & inside[:, None],
            )
            feature, filled = self.head(target, beam.feature, beam.token, cache, view)
            assert filled is not None
            own, token = likeliest(jax.nn.log_softmax(target.unembed(feature)), width, "width")
            score = (beam.score[..., None] + own).reshape(batch, -1)
            token, parent = token.reshape(batch, -1), jnp.repeat(beam.place, width, axis=1)
            best, flat = jax.lax.top_k(score, width)
            above = flat // width
            mine = (step * width + above)[..., None] == jnp.arange(self.arena)
            beam = Beam(
                token=jnp.take_along_axis(token, flat, axis=1),
                feature=jnp.take_along_axis(feature, above[..., None], axis=1),
                score=best,
                place=width + step * width**2 + flat,
                seen=jnp.take_along_axis(beam.seen, above[..., None], axis=1) | mine,
            )
            count = width * going.astype(jnp.int32)
            spent = bill(spent, self.head.cost, count, count * (length + step + 1))
            return (beam, filled, spent), Pool(token, score, parent)

        carry = (beam, state.cache, state.spent)
        if self.length == 1:
            return first, logp, state.cache, state.spent
        (_, cache, spent), later = jax.lax.scan(level, carry, jnp.arange(self.length - 1))
        grown = (jnp.moveaxis(part, 0, 1).reshape(batch, -1) for part in later)
        pool = Pool(*(jnp.concatenate(pair, axis=1) for pair in zip(first, grown, strict=True)))
        return pool, logp, cache, spent

    def chosen(self, pool: Pool, going: Bool[Array, "B"]) -> Draft:
        """The draft of the pool's best."""
        batch = going.shape[0]
        score, best = jax.lax.top_k(pool.score, self.budget)
        order = jnp.argsort(best, axis=1)
        best = jnp.take_along_axis(best, order, axis=1)
        score = jnp.take_along_axis(score, order, axis=1)
        above = jnp.take_along_axis(pool.parent, best, axis=1)
        kept = best[:, None, :] == above[..., None]  # [B, node, its parent]
        parent = jnp.where(jnp.any(kept, axis=2), jnp.argmax(kept, axis=2), ROOT)
        line = self.width == 1
        return Draft(
            tokens=jnp.take_along_axis(pool.token, best, axis=1),
            shape=Shape.line(batch, self.budget)
            if line
            else Shape.grown(parent.astype(jnp.int32), self.length),
            valid=jnp.isfinite(score) & going[:, None],
            spent=Spent.nothing(batch),
        )

    def commit(
        self, target: LanguageModel, state: Foreseen, draft: Draft, outcome: Outcome
    ) -> Foreseen:
        return self.read(target, state, along(outcome), outcome.tokens, outcome.count)
