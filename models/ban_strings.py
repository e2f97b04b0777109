"""Texts that are never written, however they are spelled: a constraint on bytes.

A string can be spelled by tokens in many ways, begin within one and end within another, so that
bans on ids miss it. For every string and every number of its bytes that have been written, a
table says of each token of the vocabulary how many are after it, and whether the string was
completed in it: the automaton of Knuth, Morris and Pratt, run over tokens. A token that would
complete a string is excluded, whatever it says besides.

A response is shown without its special tokens, so that the two halves of a string are one text
around such a token. They write nothing here, but in a string that holds the name of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.logits.masking import keep
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int, UInt
from models.text import Tokenizer
from models.token_bytes import token_bytes


class Written(NamedTuple):
    """How many bytes of each string a row ends with, i32[R, Q], and its output tokens, i32[R]."""

    begun: Array
    count: Array


@struct.dataclass
class BanStrings:
    """Excludes tokens that would complete one of several strings.

    With `tokens` and the strings that end a text, it is to them what `MinimumLength` is to end
    tokens; `StopStrings` knows special tokens by their names, so that these then count too. A
    string counts wherever it is spelled, within a longer word as well.

    Attributes:
      after: u8[Q, W, V], bytes of string q that a text ends with after token v, if it ended with
        w before; a completed string is begun anew.
      completes: bool[Q, W, V], whether the string was completed on the way.
      tokens: output tokens that the ban holds for; None for all of them.
      crossing: static; a string may begin in the prompt.
    """

    rises = False

    after: UInt[Array, "Q W V"]
    completes: Bool[Array, "Q W V"]
    tokens: Int[Array, ""] | int | None = None
    crossing: bool = struct.field(pytree_node=False, default=True)

    @classmethod
    def of(
        cls,
        tokenizer: Tokenizer,
        strings: Sequence[str],
        tokens: int | None = None,
        crossing: bool = True,
        vocab_size: int | None = None,
    ) -> BanStrings:
        """From strings of text.

        Args:
          vocab_size: the model's, where it is not the tokenizer's number of ids.
        Raises:
          ValueError: a string is empty or has more than 255 bytes, or the vocabulary's texts are
            no concatenation of tokens.
        """
        spelled = [string.encode() for string in strings]
        for index, string in enumerate(spelled):
            if not 1 <= len(string) <= 255:
                raise ValueError(
                    f"strings[{index}] has {len(string)} bytes; 1 to 255 can be banned"
                )
        if not spelled:
            raise ValueError("strings: none given; leave BanStrings out")
        if tokens is not None and tokens < 0:
            raise ValueError(f"tokens={tokens} must be at least 0, or None for all")
        named, shown = (
            _sized(token_bytes(tokenizer, skip_special=skip), vocab_size) for skip in (False, True)
        )
        special = [name for name, text in zip(named, shown, strict=True) if name != text]
        read = [(string, shown) for string in spelled]
        if special:
            by_name = tokens is not None
            read += [(s, named) for s in spelled if by_name or any(name in s for name in special)]
        width = max(map(len, spelled))
        tables = [_automaton(string, table, width) for string, table in read]
        after, completes = (jnp.asarray(np.stack(parts)) for parts in zip(*tables, strict=True))
        return cls(after, completes, tokens, crossing)

    def init(self, prompt: Prompt) -> Written:
        begun = jnp.zeros((prompt.batch, self.after.shape[0]), jnp.int32)
        zero = jnp.zeros((prompt.batch,), jnp.int32)
        if not self.crossing:
            return Written(begun, zero)

        def read(at: Int[Array, ""], begun: Int[Array, "R Q"]) -> Int[Array, "R Q"]:
            return jnp.where((at < prompt.length)[:, None], self._on(begun, tokens[:, at]), begun)

        tokens = prompt.tokens
        return Written(jax.lax.fori_loop(0, tokens.shape[1], read, begun), zero)

    def _on(self, begun: Int[Array, "R Q"], token: Int[Array, "R"]) -> Int[Array, "R Q"]:
        strings = jnp.arange(self.after.shape[0])
        return self.after[strings, begun, token[:, None]].astype(jnp.int32)

    def apply(self, state: Written, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        vocab = self.completes.shape[2]
        if logits.shape[1] > vocab:
            raise ValueError(
                f"vocab_size={vocab} of the strings' table, but the logits have {logits.shape[1]} "
                "tokens; the tokenizer is another model's"
            )
        strings = jnp.arange(self.after.shape[0])
        banned = jnp.any(self.completes[strings, state.begun], axis=1)[:, : logits.shape[1]]
        if self.tokens is not None:
            banned &= (state.count < self.tokens)[:, None]
        return keep(~banned, logits)

    def observe(self, state: Written, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Written:
        begun = jnp.where(active[:, None], self._on(state.begun, token), state.begun)
        return Written(begun, state.count + active)


def _sized(table: list[bytes], size: int | None) -> list[bytes]:
    """The first `size` tokens; what is not there writes nothing."""
    return table if size is None else table[:size] + [b""] * (size - len(table))


def _automaton(string: bytes, tokens: Sequence[bytes], width: int) -> tuple[np.ndarray, np.ndarray]:
    """One string's tables, u8[width, V] and bool[width, V]; rows that it cannot reach are zero."""
    step = _steps(string)
    longest = max(map(len, tokens))
    spelled = np.zeros((longest, len(tokens)), np.int64)
    size = np.array([len(token) for token in tokens])
    for index, token in enumerate(tokens):
        spelled[: len(token), index] = np.frombuffer(token, np.uint8)
    at = np.broadcast_to(np.arange(len(string))[:, None], (len(string), len(tokens))).copy()
    hit = np.zeros(at.shape, bool)
    for place in range(longest):
        there = np.flatnonzero(size > place)  # fewer and fewer
        moved = step[at[:, there], spelled[place, there]]
        full = moved == len(string)
        hit[:, there] |= full
        at[:, there] = np.where(full, step[len(string), 256], moved)
    after, completes = (
        np.zeros((width, len(tokens)), np.uint8),
        np.zeros((width, len(tokens)), bool),
    )
    after[: len(string)], completes[: len(string)] = at, hit
    return after, completes


def _steps(string: bytes) -> np.ndarray:
    """i64[L + 1, 257]: bytes matched after a byte, given those before; in [L, 256] how many of a
    completed string begin the next one."""
    step = np.zeros((len(string) + 1, 257), np.int64)
    step[0, string[0]] = 1
    border = 0
    for matched in range(1, len(string)):
        step[matched, :256] = step[border, :256]
        step[matched, string[matched]] = matched + 1
        border = step[border, string[matched]]
    step[len(string), 256] = border
    return step
