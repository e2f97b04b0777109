"""Laws of the next token by n-grams of several sizes, added up with weights.

    p(v | text) = sum over n of weight_n * count(last n - 1 tokens, v) / count(last n - 1 tokens)

A context that was not seen adds nothing and its weight goes to no other, so that the sum over
v is the weight of the contexts that were.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.ngram.counts import Counts
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Interpolation:
    """Tables of contexts of 1, 2, ... tokens and their weights.

    Attributes:
      tables: what follows contexts of 1, 2, ..., O tokens.
      weights: f32[O].
    """

    tables: tuple[Counts, ...]
    weights: Float[Array, "O"]

    @classmethod
    def of(
        cls,
        documents: Sequence[Sequence[int]],
        vocab: int,
        weights: Sequence[float],
        keep: int | Sequence[int],
    ) -> Interpolation:
        """Count the documents; no n-gram crosses the border between two.

        Args:
          weights: of contexts of 1, 2, ... tokens.
          keep: the most frequent successors of a context that are kept, for all or for each
            order; one that was left out counts 0.
        Raises:
          ValueError: for weights that are none or negative, and as `Counts.of`.
        """
        keeps = [keep] * len(weights) if isinstance(keep, int) else list(keep)
        if not weights or min(weights) < 0 or len(keeps) != len(weights):
            raise ValueError(
                f"weights={list(weights)}, keep={keep}: give one weight >= 0 or more, and one "
                "number to keep, or one for each weight"
            )
        tables = [Counts.of(documents, vocab, n, keeps[n - 1]) for n in range(1, len(keeps) + 1)]
        return cls(tuple(tables), jnp.asarray(weights, jnp.float32))

    @property
    def order(self) -> int:
        """Tokens of the longest context."""
        return len(self.tables)

    def shares(
        self, text: Int[Array, "... O"], tokens: Int[Array, "... N"]
    ) -> Float[Array, "... N"]:
        """Probabilities of `tokens` after texts, of which the last O tokens are given; -1 stands
        before a text's beginning."""
        total = jnp.zeros((*jnp.broadcast_shapes(text.shape[:-1], tokens.shape[:-1]), 1))
        for number, table in enumerate(self.tables):
            context = text[..., text.shape[-1] - table.order :]
            found = table.read(context)
            there = jnp.all(context >= 0, axis=-1)[..., None, None]
            same = (tokens[..., None] == found.tokens[..., None, :]) & there
            share = jnp.sum(jnp.where(same, found.values[..., None, :], 0.0), axis=-1)
            total = total + self.weights[number] * share
        return total
