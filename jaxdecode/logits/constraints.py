"""Constraints: tokens that may not, or must, come next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.logits.masking import ban, keep, settle
from jaxdecode.logits.transform import check_number, no_state, unchanged
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


def _ids(name: str, ids: Sequence[int], least: int = 0) -> Int[Array, "E"]:
    if len(ids) == 0 or min(ids) < least:
        raise ValueError(f"{name}={list(ids)}: at least one id is needed, each >= {least}")
    return jnp.asarray(list(ids), jnp.int32)


@struct.dataclass
class Ban:
    """Excludes tokens `ids`, i32[E]."""

    rises = False

    ids: Int[Array, "E"]

    init = no_state
    observe = unchanged

    @classmethod
    def of(cls, ids: Sequence[int]) -> Ban:
        return cls(_ids("ids", ids))

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return ban(self.ids, logits)


@struct.dataclass
class Allow:
    """Excludes all tokens but `ids`, i32[E]."""

    rises = False

    ids: Int[Array, "E"]

    init = no_state
    observe = unchanged

    @classmethod
    def of(cls, ids: Sequence[int]) -> Allow:
        return cls(_ids("ids", ids))

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        allowed = jnp.zeros(logits.shape[1], bool).at[self.ids].set(True, mode="drop")
        return keep(allowed, logits)


@struct.dataclass
class ForcedTokens:
    """Dictates the first output tokens, i32[F]; -1 leaves a place free.

    A forced token is certain whatever the model and the transforms before it say, but that a
    broken row stays unusable. The state counts the tokens emitted.
    """

    rises = False

    tokens: Int[Array, "F"]

    @classmethod
    def of(cls, tokens: Sequence[int]) -> ForcedTokens:
        return cls(_ids("tokens", tokens, least=-1))

    def init(self, prompt: Prompt) -> Int[Array, "R"]:
        return jnp.zeros((prompt.batch,), jnp.int32)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        count = self.tokens.shape[0]
        due = jnp.where(state < count, self.tokens[jnp.minimum(state, count - 1)], -1)[:, None]
        certain = jnp.where(jnp.arange(logits.shape[1]) == due, 0.0, -jnp.inf)
        return settle(due < 0, logits, certain)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        return state + active


@struct.dataclass
class MinimumLength:
    """Excludes the end tokens `eos`, i32[E], from the first `tokens` output tokens."""

    rises = False

    tokens: Int[Array, ""] | int
    eos: Int[Array, "E"]

    def __post_init__(self) -> None:
        check_number("tokens", self.tokens, 0)

    @classmethod
    def of(cls, tokens: int, eos: int | Sequence[int]) -> MinimumLength:
        return cls(tokens, _ids("eos", [eos] if isinstance(eos, int) else eos))

    def init(self, prompt: Prompt) -> Int[Array, "R"]:
        return jnp.zeros((prompt.batch,), jnp.int32)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return jnp.where((state < self.tokens)[:, None], ban(self.eos, logits), logits)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        return state + active


class History(NamedTuple):
    """Prompt and output tokens i32[R, C] and how many there are, i32[R]."""

    tokens: Array
    length: Array


@struct.dataclass
class NoRepeatNgram:
    """Excludes tokens that would spell an n-gram a second time, in prompt and output.

    Attributes:
      n: static; 1 forbids every token that occurred.
      max_tokens: static; output tokens remembered, to be at least what is generated. Tokens
        past it are not remembered and then nothing more is excluded.
    """

    rises = False

    n: int = struct.field(pytree_node=False)
    max_tokens: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        check_number("n", self.n, 1)
        check_number("max_tokens", self.max_tokens, 1)

    def init(self, prompt: Prompt) -> History:
        room = jnp.pad(prompt.tokens, ((0, 0), (0, self.max_tokens)))
        return History(room, prompt.length)

    def apply(self, state: History, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        """The last n-1 tokens are sought at every place; what followed them is excluded."""
        capacity = state.tokens.shape[1]
        before = self.n - 1
        places = capacity - before  # a follower stands at before, before + 1, ...
        if places < 1:
            return logits
        index = state.length[:, None] - before + jnp.arange(before)
        tail = jnp.take_along_axis(state.tokens, jnp.clip(index, 0, capacity - 1), axis=1)
        match = before + jnp.arange(places) < jnp.minimum(state.length, capacity)[:, None]
        match &= (state.length <= capacity)[:, None]
        for offset in range(before):
            match &= state.tokens[:, offset : offset + places] == tail[:, offset, None]
        follower = jnp.where(match, state.tokens[:, before:], logits.shape[1])
        return ban(follower, logits)

    def observe(self, state: History, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        rows, capacity = state.tokens.shape
        at = jnp.where(active, state.length, capacity)
        tokens = state.tokens.at[jnp.arange(rows), at].set(token, mode="drop")
        return History(tokens, state.length + active)
