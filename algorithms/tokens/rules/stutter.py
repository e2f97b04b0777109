"""Whether a token that was said beside another only repeats it.

Places that do not see one another tend to say one thing twice, or a word and then its longer form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Int


class Stutter(Protocol):
    """Says which tokens repeat those before them."""

    def __call__(self, before: Int[Array, "R"], token: Int[Array, "R"]) -> Bool[Array, "R"]: ...


@struct.dataclass
class Nothing:
    """No token does."""

    def __call__(self, before: Int[Array, "R"], token: Int[Array, "R"]) -> Bool[Array, "R"]:
        return jnp.zeros(token.shape, bool)


@struct.dataclass
class Same:
    """It is the token before."""

    def __call__(self, before: Int[Array, "R"], token: Int[Array, "R"]) -> Bool[Array, "R"]:
        return before == token


@struct.dataclass
class Extends:
    """It is the token before, or its text begins with that one's.

    Attributes:
      text: i32[V, M], the bytes of every token; -1 past its end.
    """

    text: Int[Array, "V M"]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Extends:
        """From the bytes of every token; one without bytes begins nothing."""
        table = np.full((len(texts), max(map(len, texts), default=1) or 1), -1, np.int32)
        for row, text in enumerate(texts):
            table[row, : len(text)] = list(text)
        return cls(jnp.asarray(table))

    def __call__(self, before: Int[Array, "R"], token: Int[Array, "R"]) -> Bool[Array, "R"]:
        first, second = self.text[before], self.text[token]
        begins = jnp.all((first < 0) | (first == second), axis=1) & (first[:, 0] >= 0)
        return begins | (before == token)
