"""The tokens of a row from its first prompt token on, for whoever looks back at them."""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Int


@struct.dataclass
class Text:
    """B texts, the root included.

    Attributes:
      tokens: i32[B, S]; entries at or past `length` are -1.
      length: i32[B].
    """

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]

    @classmethod
    def of(cls, prompt: Prompt, room: int) -> Text:
        """The prompts, in texts that may come to have `room` tokens."""
        width = prompt.tokens.shape[1]
        inside = jnp.arange(width) < prompt.length[:, None]
        tokens = jnp.where(inside, prompt.tokens, -1)
        return cls(jnp.pad(tokens, ((0, 0), (0, room - width)), constant_values=-1), prompt.length)

    def append(self, tokens: Int[Array, "B T"], count: Int[Array, "B"]) -> Text:
        """The texts with the first `count` of `tokens` at their ends."""
        order = jnp.arange(tokens.shape[1])
        slot = self.length[:, None] + order
        slot = jnp.where(order < count[:, None], slot, self.tokens.shape[1])
        return Text(put(self.tokens, slot, tokens), self.length + count)

    def window(self, start: Int[Array, "B"], count: int) -> Int[Array, "B count"]:
        """`count` tokens from `start` on; -1 outside the text."""
        index = start[:, None] + jnp.arange(count)
        inside = (index >= 0) & (index < self.length[:, None])
        index = jnp.clip(index, 0, self.tokens.shape[1] - 1)
        return jnp.where(inside, jnp.take_along_axis(self.tokens, index, axis=1), -1)

    def last(self, count: int) -> Int[Array, "B count"]:
        """The newest `count` tokens; -1 before the beginning."""
        return self.window(self.length - count, count)
