"""Constraints on what several tokens in a row spell: texts never written, texts to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.logits.masking import ban, keep
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int

FREE = -1  # padding of a sequence
UNREAD = -2  # before a text begins; equal to no token and no padding


def _rows(name: str, sequences: Sequence[Sequence[int]], left: bool) -> Int[Array, "Q W"]:
    """Sequences side by side, padded on one side."""
    if not sequences or any(len(s) == 0 or min(s) < 0 for s in sequences):
        raise ValueError(
            f"{name}={[list(s) for s in sequences]}: one sequence or more is needed, each of at "
            "least one id, none negative"
        )
    width = max(map(len, sequences))
    padded = np.full((len(sequences), width), FREE, np.int32)
    for row, sequence in zip(padded, sequences, strict=True):
        row[slice(width - len(sequence), None) if left else slice(len(sequence))] = sequence
    return jnp.asarray(padded)


@struct.dataclass
class BanSequences:
    """Excludes the token that would complete one of `sequences`, in prompt and output.

    A sequence may begin in the prompt. The state is the last W - 1 tokens of every row.

    Attributes:
      sequences: i32[Q, W], padded on the left with -1.
    """

    rises = False

    sequences: Int[Array, "Q W"]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> BanSequences:
        return cls(_rows("sequences", sequences, left=True))

    def init(self, prompt: Prompt) -> Int[Array, "R W1"]:
        newest = Text.of(prompt, prompt.tokens.shape[1]).last(self.sequences.shape[1] - 1)
        return jnp.where(newest < 0, UNREAD, newest)

    def apply(self, state: Int[Array, "R W1"], logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        before, last = self.sequences[:, :-1], self.sequences[:, -1]
        begun = jnp.all((before == FREE) | (before == state[:, None]), axis=2)  # [R, Q]
        token = jnp.where(begun, last, logits.shape[1])
        return ban(token, logits)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        newest = jnp.concatenate([state, token[:, None]], axis=1)[:, 1:]
        return jnp.where(active[:, None], newest, state)


class Spelled(NamedTuple):
    """Which choices the output still spells, bool[R, C], and how long it is, i32[R]."""

    open: Array
    count: Array


@struct.dataclass
class OneOf:
    """The output is one of the `choices` and then an end token; all else is excluded.

    Where one choice begins another, ending and going on are both open. Under a beam search as
    wide as there are choices the list holds every choice, ordered by its likelihood.

    Attributes:
      choices: i32[C, W], padded on the right with -1.
      eos: i32[E], end tokens.
    """

    rises = False

    choices: Int[Array, "C W"]
    eos: Int[Array, "E"]

    @classmethod
    def of(cls, choices: Sequence[Sequence[int]], eos: Sequence[int]) -> OneOf:
        if len(eos) == 0:
            raise ValueError("eos=[]: without an end token no choice could end")
        return cls(_rows("choices", choices, left=False), jnp.asarray(list(eos), jnp.int32))

    def init(self, prompt: Prompt) -> Spelled:
        rows, choices = prompt.batch, self.choices.shape[0]
        return Spelled(jnp.ones((rows, choices), bool), jnp.zeros((rows,), jnp.int32))

    def due(self, state: Spelled) -> Int[Array, "R C"]:
        """The next token of every choice; FREE where it is complete."""
        complete = jnp.pad(self.choices, ((0, 0), (0, 1)), constant_values=FREE)
        at = jnp.minimum(state.count, self.choices.shape[1])
        return complete[:, at].T

    def apply(self, state: Spelled, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        vocab, rows = logits.shape[1], jnp.arange(logits.shape[0])[:, None]
        due = self.due(state)
        going = jnp.where(state.open & (due >= 0), due, vocab)
        ending = jnp.any(state.open & (due < 0), axis=1)[:, None]
        allowed = jnp.zeros(logits.shape, bool).at[rows, going].set(True, mode="drop")
        ends = jnp.zeros((vocab,), bool).at[self.eos].set(True, mode="drop")
        return keep(allowed | (ending & ends), logits)

    def observe(self, state: Spelled, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Spelled:
        open_ = state.open & (self.due(state) == token[:, None])
        return Spelled(jnp.where(active[:, None], open_, state.open), state.count + active)
