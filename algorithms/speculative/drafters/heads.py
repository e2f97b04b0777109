"""Heads on the target's hidden state draft a tree (Medusa, Clover, and their like).

The state that said the root is what the heads start from. A head that remembers the text, as
Clover's augmenting block does, takes in the hidden states of all tokens that a round commits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from algorithms.speculative.drafters.ranked import Plan
from jaxdecode import struct
from jaxdecode.cache import Cache, truncate
from jaxdecode.draft import Draft, Spent, at
from jaxdecode.drafter import Now, Outcome
from jaxdecode.lm import LanguageModel, ModelCost, View
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class DraftHeads(Protocol):
    """A module that guesses `count` places ahead."""

    @property
    def count(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def guessing(self) -> ModelCost:
        """Of one guess."""
        ...

    @property
    def absorbing(self) -> ModelCost:
        """Of taking in one token of the text."""
        ...

    def init_cache(self, batch: int, capacity: int) -> Cache | None: ...

    def absorb(
        self, target: Any, hidden: Float[Array, "B T D"], cache: Any, view: View
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """What `guess` starts from, at every new token of the text, from the target's final
        hidden state there."""
        ...

    def guess(
        self, target: Any, index: int, hidden: Float[Array, "B W D"], token: Int[Array, "B W"]
    ) -> tuple[Float[Array, "B W V"], Float[Array, "B W D"]]:
        """Head `index`: logits after each token, and what the next head starts from."""
        ...


@struct.dataclass
class Absorbed:
    """State of the drafter.

    Attributes:
      hidden: f32[B, D], what the heads start from: that of the token before the root, 0 where
        there is none.
      cache: the heads' own, of the tokens before the root, or None.
      length: i32[B], how many these are.
      spent: what absorbing has cost since the last draft.
    """

    hidden: Float[Array, "B D"]
    cache: Cache | None
    length: Int[Array, "B"]
    spent: Spent


@struct.dataclass
class Heads:
    """Drafts a tree by `plan` from the guesses of `heads`."""

    heads: DraftHeads
    plan: Plan

    drawn = False

    def __post_init__(self) -> None:
        if isinstance(getattr(self.heads, "count", None), int):
            self.plan.levels(self.heads.count)  # may refuse

    @property
    def nodes(self) -> int:
        return self.plan.nodes

    @property
    def depth(self) -> int:
        return self.plan.levels(self.heads.count)

    @property
    def vocab_size(self) -> int:
        return self.heads.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Absorbed:
        batch, width = prompt.tokens.shape
        zero = jnp.zeros((batch,), jnp.int32)
        state = Absorbed(
            hidden=jnp.zeros((batch, hidden.shape[2]), hidden.dtype),
            cache=self.heads.init_cache(batch, max(capacity, width)),
            length=zero,
            spent=Spent.nothing(batch),
        )
        if width == 1:
            return state
        return self.absorb(target, state, hidden, prompt.length - 1, fresh=True)

    def absorb(
        self,
        target: LanguageModel,
        state: Absorbed,
        hidden: Float[Array, "B T D"],
        count: Int[Array, "B"],
        fresh: bool = False,
    ) -> Absorbed:
        """Take in the first `count` of T new tokens."""
        order = jnp.arange(hidden.shape[1])
        view = View(
            position=state.length[:, None] + order,
            start=state.length,
            prefix=state.length,
            valid=order < count[:, None],
            fresh=fresh,
        )
        found, cache = self.heads.absorb(target, hidden, state.cache, view)
        length = state.length + count
        attended = count * state.length + count * (count + 1) // 2
        return Absorbed(
            hidden=jnp.where((count > 0)[:, None], at(found, count - 1), state.hidden),
            cache=None if cache is None else truncate(cache, length),
            length=length,
            spent=bill(state.spent, self.heads.absorbing, count, attended),
        )

    def propose(self, target: LanguageModel, state: Absorbed, now: Now) -> tuple[Draft, Absorbed]:
        going = now.active & (now.limit > 0)

        def guess(index: int, hidden: Array, token: Array) -> tuple[Array, Array]:
            return self.heads.guess(target, index, hidden, token)

        grown = self.plan(guess, state.hidden, now.root, now.limit, self.depth)
        guesses = jnp.where(going, grown.guesses, 0)
        draft = Draft(
            tokens=grown.tokens,
            shape=grown.shape,
            valid=grown.valid & going[:, None],
            spent=owed(bill(state.spent, self.heads.guessing, guesses, 0 * guesses), going),
        )
        return draft, replace(state, spent=owed(state.spent, ~going))

    def commit(
        self, target: LanguageModel, state: Absorbed, draft: Draft, outcome: Outcome
    ) -> Absorbed:
        return self.absorb(target, state, along(outcome), outcome.count)


def along(outcome: Outcome) -> Float[Array, "B Pp1 D"]:
    """The target's final hidden states on the way: at the root, then at the accepted nodes.

    State i is that of the token before emitted token i; past the emitted ones they do not matter.
    """
    path = outcome.verdict.path
    index = jnp.concatenate([jnp.zeros_like(path[:, :1]), path + 1], axis=1)
    index = jnp.clip(index, 0, outcome.hidden.shape[1] - 1)
    return jnp.take_along_axis(outcome.hidden, index[..., None], axis=1)


def bill(
    spent: Spent, cost: ModelCost, tokens: Int[Array, "B"], attended: Int[Array, "B"]
) -> Spent:
    """Add one pass over `tokens` new tokens that saw `attended` keys in all; none, no pass."""
    runs = tokens > 0 if cost.parameters else jnp.zeros_like(tokens, bool)
    return Spent(
        passes=spent.passes + runs,
        tokens=spent.tokens + jnp.where(runs, tokens, 0),
        flops=spent.flops + 2.0 * cost.parameters * tokens + 1.0 * cost.attention * attended,
    )


def owed(spent: Spent, rows: Bool[Array, "B"]) -> Spent:
    """What was spent on some rows."""
    return Spent(*(jnp.where(rows, x, 0) for x in (spent.passes, spent.tokens, spent.flops)))
