"""Stop strings that no tokenisation can hide, checked on the device.

A string may be spelled by tokens in many ways, begin within one and end within another, so
stop sequences of ids miss it. `StopStrings` compares bytes: those of the tail of each row
against those of the strings. It stands where `jaxdecode.stop.Stop` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Int, UInt
from models.text import Tokenizer
from models.token_bytes import token_bytes

NOTHING = 255  # a byte that no UTF-8 text holds


@struct.dataclass
class StopStrings:
    """Ends a row whose newest token is in `eos` or completes one of several strings.

    Only emitted tokens count: a string cannot begin in the prompt. The text beyond the string
    stays in the row's tokens; `models.stream.trim` cuts it off.

    Attributes:
      eos: i32[E], end tokens; E may be 0.
      strings: u8[Q, W], the strings' bytes, last byte first, filled with 255.
      table: u8[V, M], the tokens' bytes, last byte first, filled with 255.
      size: i32[V], how many bytes each token has.
    """

    eos: Int[Array, "E"]
    strings: UInt[Array, "Q W"]
    table: UInt[Array, "V M"]
    size: Int[Array, "V"]

    @classmethod
    def of(cls, tokenizer: Tokenizer, strings: Sequence[str]) -> StopStrings:
        """From strings of text; the end tokens are the tokenizer's."""
        for index, string in enumerate(strings):
            if not string:
                raise ValueError(f"strings[{index}] is empty and would stop every row at once")
        if not strings:
            raise ValueError("strings: none given; for end tokens alone use jaxdecode.stop.Stop")
        # An id that names no token has one byte that matches nothing.
        table = [token or bytes([NOTHING]) for token in token_bytes(tokenizer)]
        return cls(
            eos=jnp.asarray(tokenizer.eos, jnp.int32),
            strings=jnp.asarray(_reversed([string.encode() for string in strings])),
            table=jnp.asarray(_reversed(table)),
            size=jnp.asarray([len(token) for token in table], jnp.int32),
        )

    def __call__(self, tokens: Int[Array, "R L"], length: Int[Array, "R"]) -> Bool[Array, "R"]:
        """Whether the row ends with its newest token, tokens[length - 1]."""
        rows, width = tokens.shape[0], self.strings.shape[1]
        # Each token has a byte at least, so `width` tokens hold a string that ends in the newest.
        back = jnp.arange(min(width, tokens.shape[1]))
        index = length[:, None] - 1 - back
        newest_first = jnp.take_along_axis(tokens, jnp.clip(index, 0), axis=1)
        size = jnp.where(index >= 0, self.size[newest_first], 0)
        ends = jnp.any(newest_first[:, :1] == self.eos, axis=1)

        # tail[:, o] is the byte that has o bytes behind it.
        longest = self.table.shape[1]
        behind = jnp.cumsum(size, axis=1) - size
        byte = jnp.arange(longest)
        reach = longest + width - 1
        at = jnp.where(byte < size[..., None], behind[..., None] + byte, reach)
        row = jnp.arange(rows)[:, None, None]
        tail = jnp.full((rows, reach), NOTHING, self.table.dtype)
        tail = tail.at[row, at].set(self.table[newest_first], mode="drop")

        # A match must end within the newest token, or it would have been found before.
        window = tail[:, byte[:, None] + jnp.arange(width)]  # [R, M, W]
        free = self.strings == NOTHING
        same = free | (window[:, :, None, :] == self.strings)
        match = jnp.any(jnp.all(same, axis=3), axis=2) & (byte < size[:, :1])
        return (ends | jnp.any(match, axis=1)) & (length > 0)


def _reversed(texts: Sequence[bytes]) -> np.ndarray:
    """u8[texts, longest], last byte first."""
    out = np.full((len(texts), max(map(len, texts))), NOTHING, np.uint8)
    for row, text in enumerate(texts):
        out[row, : len(text)] = np.frombuffer(text[::-1], np.uint8)
    return out
