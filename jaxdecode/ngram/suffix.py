"""How much of what was just written would be repeated: matches of a text's end in the text.

    match[j] = the most tokens that stand alike before place j and at the end of the text

One token further the matches are found from the last ones,

    match'[j + 1] = match[j] + 1 where tokens[j] is the new token, else 0,

so that S comparisons a step serve matches of any length. Graph walks, penalties on repetition
and blocks of n-grams look up what followed the longest match.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Int

IGNORED = -1  # a place that holds no token, and matches none


@struct.dataclass
class Suffix:
    """B texts and the matches of their ends. Every leaf leads with B.

    Attributes:
      tokens: i32[B, S]; IGNORED past the text, and where a token is not to be matched.
      length: i32[B]; tokens past S are not remembered.
      match: i32[B, S], see the module; only places below `length` count.
    """

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]
    match: Int[Array, "B S"]

    @classmethod
    def of(cls, prompt: Prompt, room: int, ignored: Int[Array, "E"] | None = None) -> Suffix:
        """The prompts, in texts that may come to have `room` tokens.

        Tokens of `ignored` are neither matched nor matched across.
        """
        blank = jnp.zeros((prompt.batch, room), jnp.int32)
        empty = cls(blank + IGNORED, jnp.zeros((prompt.batch,), jnp.int32), blank)

        def read(suffix: Suffix, step: tuple[Array, Array]) -> tuple[Suffix, None]:
            token, index = step
            return suffix.append(token, index < prompt.length, ignored), None

        order = jnp.arange(prompt.tokens.shape[1])
        return jax.lax.scan(read, empty, (prompt.tokens.T, order))[0]

    def append(
        self,
        token: Int[Array, "B"],
        active: Bool[Array, "B"],
        ignored: Int[Array, "E"] | None = None,
    ) -> Suffix:
        """The texts one token further, on the active rows."""
        if ignored is not None:
            token = jnp.where(jnp.any(token[:, None] == ignored, axis=1), IGNORED, token)
        alike = (self.tokens == token[:, None]) & (token >= 0)[:, None]
        match = jnp.pad(jnp.where(alike, self.match + 1, 0), ((0, 0), (1, 0)))[:, :-1]
        at = jnp.where(active, self.length, self.tokens.shape[1])
        return replace(
            self,
            tokens=put(self.tokens, at[:, None], token[:, None]),
            length=self.length + active,
            match=jnp.where(active[:, None], match, self.match),
        )

    def before(self, candidates: Int[Array, "B K"]) -> Int[Array, "B K"]:
        """The longest match that each candidate has followed; -1 where it has not occurred.

        One more is the length of the longest n-gram that the candidate would repeat.
        """
        found = self.tokens[:, None] == candidates[..., None]  # [B, K, S]
        return jnp.max(jnp.where(found, self.match[:, None], -1), axis=2)

    def before_all(self, vocab: int) -> Int[Array, "B V"]:
        """`before` of every token."""
        place = jnp.where(self.tokens >= 0, self.tokens, vocab)
        row = jnp.arange(place.shape[0])[:, None]
        blank = jnp.full((place.shape[0], vocab), -1, jnp.int32)
        return blank.at[row, place].max(self.match, mode="drop")
