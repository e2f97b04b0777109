"""Quotation: only what goes on quoting a passage of the prompt, or ends the quotation."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.passage import PassageRule
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


class Quoted(NamedTuple):
    """State.

    Attributes:
      tokens: of the prompts.
      inside: which of them are the passage's.
      place: those that an output can go on with.
      begun: whether there is an output.
    """

    tokens: Int[Array, "R P"]
    inside: Bool[Array, "R P"]
    place: Bool[Array, "R P"]
    begun: Bool[Array, "R"]


@struct.dataclass
class Quotation:
    """Excludes every token with which the output would not be a part of the passage.

    An output may be the same part at several places; all are followed. It may end anywhere, but
    not before its first token. The law is that of a trie of all parts, renormalised token by
    token: its greedy text is a quotation, and not the most probable one.

    Attributes:
      passage: where in its prompt each row's passage is.
      end: i32[E], tokens that end an output.
    """

    passage: PassageRule
    end: Int[Array, "E"]

    def init(self, prompt: Prompt) -> Quoted:
        start, count = self.passage(prompt)
        index = jnp.arange(prompt.tokens.shape[1])
        inside = (index >= start[:, None]) & (index < (start + count)[:, None])
        return Quoted(prompt.tokens, inside, inside, jnp.zeros(start.shape, bool))

    def apply(self, state: Quoted, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        rows, vocab = logits.shape
        place = jnp.where(state.place, state.tokens, vocab)
        end = jnp.where(state.begun[:, None] & (self.end >= 0), self.end, vocab)
        allowed = jnp.zeros(logits.shape, bool)
        for token in (place, end):
            allowed = allowed.at[jnp.arange(rows)[:, None], token].set(True, mode="drop")
        return jnp.where(allowed, logits, -jnp.inf)

    def observe(self, state: Quoted, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Quoted:
        hit = state.place & (state.tokens == token[:, None])
        after = jnp.pad(hit[:, :-1], ((0, 0), (1, 0))) & state.inside
        return state._replace(
            place=jnp.where(active[:, None], after, state.place), begun=state.begun | active
        )
