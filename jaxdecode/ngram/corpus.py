"""A corpus that can be searched for any sequence of tokens: a suffix array.

Documents are joined by a separator, -1, which no query contains, and the suffixes of the whole
are sorted on the host. A binary search over them finds every occurrence of a query
(Manber & Myers 1993); retrieval of continuations as in REST (He et al. 2023,
arXiv:2311.08252). The device holds 8 bytes per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.ngram import storage
from jaxdecode.ngram.slots import fetch
from jaxdecode.ngram.trie import Continuations
from jaxdecode.text import Text
from jaxdecode.types import Array, Int

SEPARATOR = -1


@struct.dataclass
class Corpus:
    """Documents and their suffixes in lexicographic order.

    Attributes:
      tokens: i32[C], every document followed by `SEPARATOR`.
      suffixes: i32[C], where the suffixes begin, in order; an end before what goes on.
      vocab: static, tokens lie in 0..vocab - 1.
    """

    tokens: Int[Array, "C"]
    suffixes: Int[Array, "C"]
    vocab: int = struct.field(pytree_node=False)

    @classmethod
    def of(cls, documents: Sequence[Sequence[int]], vocab: int) -> Corpus:
        """Sort the suffixes of the documents.

        Raises:
          ValueError: for an empty corpus or a token outside the vocabulary.
        """
        joined = join(documents, vocab)
        return cls(jnp.asarray(joined), jnp.asarray(suffix_array(joined)), vocab)

    def save(self, path: Path | str, tokenizer: str) -> None:
        """Write the corpus; `tokenizer` is its fingerprint (see `storage`)."""
        arrays = {
            "tokens": self.tokens,
            "suffixes": self.suffixes,
            "vocab": np.array([self.vocab], np.int32),
        }
        storage.save(path, "corpus", tokenizer, {k: np.asarray(v) for k, v in arrays.items()})

    @classmethod
    def load(cls, path: Path | str, tokenizer: str) -> Corpus:
        """Read a corpus that was saved.

        Raises:
          ValueError: see `storage.load`.
        """
        found = storage.load(path, "corpus", tokenizer)
        return cls(
            jnp.asarray(found["tokens"]), jnp.asarray(found["suffixes"]), int(found["vocab"][0])
        )

    def find(
        self, end: Int[Array, "B W"], count: Int[Array, "Q"]
    ) -> tuple[Int[Array, "B Q"], Int[Array, "B Q"]]:
        """The ranges of the suffixes that begin with the last `count` tokens of `end`."""
        size, width = self.tokens.shape[0], end.shape[1]
        order = jnp.arange(width)
        asked = order < count[:, None]  # [Q, W]
        query = end[:, (order + width - count[:, None]) % width]  # [B, Q, W]
        # Both ends of the range in one search: the first suffix that is not less than the
        # query, and the first that is greater.
        above = jnp.array([[[False]], [[True]]])

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) // 2
            held = self.continued(fetch(self.suffixes, middle), width)
            differ = (held != query) & asked
            at = jnp.argmax(differ, axis=-1, keepdims=True)
            less = jnp.take_along_axis(held < query, at, axis=-1)[..., 0]
            right = jnp.where(jnp.any(differ, axis=-1), less, above) & (low < high)
            return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

        zero = jnp.zeros((2, *query.shape[:2]), jnp.int32)
        found = jax.lax.fori_loop(0, size.bit_length() + 1, halve, (zero, zero + size))[0]
        return found[0], found[1]

    def continued(self, start: Int[Array, "..."], count: int) -> Int[Array, "... count"]:
        """`count` tokens from each place on, separators past the end."""
        place = start[..., None] + jnp.arange(count)
        return jnp.where(place < len(self.tokens), fetch(self.tokens, place), SEPARATOR)

    def longest(
        self, text: Text, longest: int, shortest: int
    ) -> tuple[Int[Array, "B"], Int[Array, "B"], Int[Array, "B"]]:
        """The range of the longest end of the text that occurs, and its length, 0 if none does."""
        lengths = jnp.arange(longest, shortest - 1, -1)
        first, last = self.find(text.last(longest), lengths)
        occurs = (last > first) & (lengths <= text.length[:, None])
        chosen = jnp.argmax(occurs, axis=1)
        matched = jnp.where(jnp.any(occurs, axis=1), lengths[chosen], 0)
        first, last = (jnp.take_along_axis(x, chosen[:, None], axis=1)[:, 0] for x in (first, last))
        return first, jnp.where(matched > 0, last, first), matched

    def retrieve(
        self, text: Text, matches: int, length: int, longest: int = 16, shortest: int = 2
    ) -> Continuations:
        """What follows the longest end of the text that occurs, `matches` times at most.

        Of more occurrences, which stand in the order of what follows, evenly spaced ones are
        taken, so that the weights keep their proportions.
        """
        first, last, matched = self.longest(text, longest, shortest)
        count = last - first
        order = jnp.arange(matches)
        every = jnp.maximum(count / matches, 1.0)[:, None]
        rank = jnp.floor((order + 0.5) * every - 0.5 * (every == 1.0)).astype(jnp.int32)
        there = order < count[:, None]
        start = fetch(self.suffixes, jnp.where(there, first[:, None] + rank, 0))
        tokens = self.continued(start + matched[:, None], length)
        inside = jnp.cumprod(tokens != SEPARATOR, axis=2).astype(bool) & there[..., None]
        ends = inside[..., 0]  # an occurrence at the end of its document goes nowhere
        return Continuations(jnp.where(inside, tokens, -1), ends.astype(jnp.float32))


def join(documents: Sequence[Sequence[int]], vocab: int) -> np.ndarray:
    """The documents, each followed by the separator, i32[C]."""
    parts = [np.append(np.asarray(d, np.int32), np.int32(SEPARATOR)) for d in documents if len(d)]
    if not parts:
        raise ValueError("documents: none has a token; pass at least one that has")
    for number, part in enumerate(parts):
        bad = part[:-1][(part[:-1] < 0) | (part[:-1] >= vocab)]
        if bad.size:
            raise ValueError(
                f"documents[{number}] holds token {bad[0]}, outside the vocabulary 0..{vocab - 1}; "
                "was it made with this tokenizer?"
            )
    return np.concatenate(parts)


def suffix_array(tokens: np.ndarray) -> np.ndarray:
    """The beginnings of the suffixes of i32[C] in lexicographic order, by prefix doubling."""
    size = len(tokens)
    rank = np.unique(tokens, return_inverse=True)[1].astype(np.int64)
    width = 1
    while True:
        after = np.full(size, -1, np.int64)
        after[: max(size - width, 0)] = rank[width:]
        key = rank * (size + 1) + after + 1
        order = np.argsort(key, kind="stable")
        fresh = np.empty(size, np.int64)
        fresh[order] = np.cumsum(np.diff(key[order], prepend=key[order[0]]) != 0)
        rank, width = fresh, 2 * width
        if rank[order[-1]] == size - 1 or width >= 2 * size:
            return order.astype(np.int32)
