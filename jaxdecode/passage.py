"""Where the passage of a prompt is: the tokens that an answer may quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Int


class Passage(NamedTuple):
    """The part of each prompt: its first token and its length, 0 where there is none."""

    start: Int[Array, "B"]
    count: Int[Array, "B"]


@runtime_checkable
class PassageRule(Protocol):
    """Finds the passages of prompts."""

    def __call__(self, prompt: Prompt) -> Passage: ...


@struct.dataclass
class Whole:
    """Everything."""

    def __call__(self, prompt: Prompt) -> Passage:
        return Passage(jnp.zeros_like(prompt.length), prompt.length)


@struct.dataclass
class Between:
    """What stands between the first `opening` and the first `closing` after it.

    A prompt is to be put together from tokens and not from text: a tokenizer may else merge the
    border, and neither is found.

    Attributes:
      opening: i32[W], may be empty: from the first token on.
      closing: i32[C], may be empty: up to the last token.
    """

    opening: Int[Array, "W"]
    closing: Int[Array, "C"]

    @classmethod
    def of(cls, opening: Sequence[int], closing: Sequence[int]) -> Between:
        return cls(jnp.asarray(opening, jnp.int32), jnp.asarray(closing, jnp.int32))

    def __call__(self, prompt: Prompt) -> Passage:
        start, begins = _first(prompt, self.opening, jnp.zeros_like(prompt.length))
        start = jnp.where(begins, start + self.opening.shape[0], 0)
        if self.closing.shape[0] == 0:
            stop, ends = prompt.length, jnp.ones_like(begins)
        else:
            stop, ends = _first(prompt, self.closing, start)
        return Passage(start, jnp.where(begins & ends, stop - start, 0))


def _first(
    prompt: Prompt, pattern: Int[Array, "W"], least: Int[Array, "B"]
) -> tuple[Int[Array, "B"], Bool[Array, "B"]]:
    """The first place from `least` on where a pattern begins, and whether there is one."""
    width, size = prompt.tokens.shape[1], pattern.shape[0]
    padded = jnp.pad(prompt.tokens, ((0, 0), (0, size)), constant_values=-1)
    place = jnp.arange(width)
    found = (place >= least[:, None]) & (place + size <= prompt.length[:, None])
    for offset in range(size):
        found &= padded[:, offset : offset + width] == pattern[offset]
    return jnp.argmax(found, axis=1).astype(jnp.int32), jnp.any(found, axis=1)
