"""A list under way: how it is written, what was said of it, and the model behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import Cache, truncate
from jaxdecode.follower import Follower, catch_up
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status, Usage
from jaxdecode.rows import Rows
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int

STRIDE = 32  # tokens of the list read at once


@struct.dataclass
class Marks:
    """How a list is written.

    Attributes:
      between: i32[N, S], what stands behind each item, up to where the next begins; -1 past its
        end.
      nothing: i32[W], what is listed for an item that did not end; W may be 0.
    """

    between: Int[Array, "N S"]
    nothing: Int[Array, "W"]

    @classmethod
    def of(cls, between: Sequence[Sequence[int]], nothing: Sequence[int], vocab_size: int) -> Marks:
        """From token lists, one for each item but the last.

        Raises:
          ValueError: for an id that is no token.
        """
        for token in (*nothing, *(t for line in between for t in line)):
            if not 0 <= token < vocab_size:
                raise ValueError(f"between, nothing: {token} is no token of the {vocab_size}")
        table = np.full((len(between) + 1, max([1, *map(len, between)])), -1, np.int32)
        for row, line in enumerate(between):
            table[row, : len(line)] = list(line)
        return cls(jnp.asarray(table), jnp.asarray(list(nothing), jnp.int32))

    def longest(self, item: int) -> int:
        """Tokens that an item of at most so many may take in the list."""
        return max(item, self.nothing.shape[0]) + self.between.shape[1]


class Items(NamedTuple):
    """What is kept of the rows of a run: B * m items, prompt by prompt."""

    tokens: Int[Array, "BM L"]
    length: Int[Array, "BM"]
    status: Int[Array, "BM"]
    logprob: Float[Array, "BM"]
    meter: Any
    usage: Usage

    @classmethod
    def of(cls, rows: Rows) -> Items:
        """From rows that have ended."""
        return cls(rows.tokens, rows.length, rows.status, rows.logprob, rows.meter, rows.usage)


class Listing(NamedTuple):
    """The list under way.

    Attributes:
      text: prompt and list.
      cache, logits, hidden: after reading it.
      tried: bool[B, V], tokens that began an item.
      open: bool[B], whether there was room for all items so far.
      passes: i32[B], that reading took.
    """

    text: Text
    cache: Cache
    logits: Float[Array, "B V"]
    hidden: Float[Array, "B D"]
    tried: Bool[Array, "B V"]
    open: Bool[Array, "B"]
    passes: Int[Array, "B"]

    @classmethod
    def begun(cls, model: LanguageModel, prompt: Prompt, room: int) -> Listing:
        """The prompts, read, with room for so many tokens of a list."""
        size = prompt.tokens.shape[1] + room
        read = prefill(model, prompt, size + STRIDE)
        asked = extend(model, read.root[:, None], read.cache)
        return cls(
            text=Text.of(prompt, size),
            cache=truncate(asked.cache, prompt.length),
            logits=asked.logits[:, 0],
            hidden=asked.hidden[:, 0],
            tried=jnp.zeros((prompt.batch, model.vocab_size), bool),
            open=jnp.ones((prompt.batch,), bool),
            passes=1 + (prompt.length > 1),
        )

    def prompt(self, id: Int[Array, "B"], width: int | None = None) -> Prompt:
        """What was said so far, as prompts of at most `width` tokens."""
        return Prompt(jnp.maximum(self.text.tokens[:, :width], 0), self.text.length, id)

    def joined(
        self, marks: Marks, token: Int[Array, "B m"], items: Items, first: Int[Array, ""]
    ) -> Listing:
        """The list with a run's items, as far as there is room.

        Args:
          token: what began each item; -1 for none.
          first: the number of the first of them.
        """
        (batch, width), most = token.shape, self.text.tokens.shape[1]
        closed = (items.status == Status.EOS).reshape(batch, width)
        size = max(items.tokens.shape[1], marks.nothing.shape[0])
        said = _wide(items.tokens, size).reshape(batch, width, size)
        item = jnp.where(closed[..., None], said, _wide(marks.nothing[None], size))
        # The last token of what is closed is what closed it.
        said_count = items.length.reshape(batch, width) - 1
        count = jnp.where(closed, said_count, marks.nothing.shape[0])

        def one(place: Int[Array, ""], state: tuple[Text, Array]) -> tuple[Text, Array]:
            text, open = state
            line = marks.between[first + place]
            behind = jnp.sum(line >= 0)
            there = (token[:, place] >= 0) & open
            fits = text.length + count[:, place] + behind <= most
            adds = there & fits
            text = text.append(item[:, place], jnp.where(adds, count[:, place], 0))
            lines = jnp.broadcast_to(line, (batch, len(line)))
            return text.append(lines, jnp.where(adds, behind, 0)), open & (fits | ~there)

        text, open = jax.lax.fori_loop(0, width, one, (self.text, self.open))
        begun = jnp.where(token >= 0, token, self.tried.shape[1])
        tried = self.tried.at[jnp.arange(batch)[:, None], begun].set(True, mode="drop")
        return self._replace(text=text, tried=tried, open=open)

    def read(self, model: LanguageModel, goes: Bool[Array, "B"]) -> Listing:
        """Read what was listed, on the rows that go on."""
        found = catch_up(model, Follower(self.cache, self.text), goes, STRIDE)
        moved = (found.spent.tokens > 0)[:, None]
        return self._replace(
            cache=found.cache,
            logits=jnp.where(moved, found.logits, self.logits),
            hidden=jnp.where(moved, found.hidden, self.hidden),
            passes=self.passes + found.spent.passes,
        )


def _wide(tokens: Int[Array, "R L"], size: int) -> Int[Array, "R size"]:
    return jnp.pad(tokens, ((0, 0), (0, size - tokens.shape[1])))
