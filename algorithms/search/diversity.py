"""How alike an extension is to what earlier groups hold: the terms of diverse beam search.

Each gives a penalty [B, W, V] for taking token v in this step, summed over the hypotheses of
earlier groups, which are one token ahead.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.extension import Front
from jaxdecode.lm import LayeredModel
from jaxdecode.logits.transform import check_number
from jaxdecode.types import Array, Float, Int


@runtime_checkable
class Diversity(Protocol):
    """A measure of likeness. One with an attribute `nonnegative` that is true never is below 0,
    so that it only lowers scores; one that does not say may be. Cosines are."""

    def __call__(self, front: Front) -> Float[Array, "B W V"]: ...


def newest(front: Front) -> Int[Array, "B M"]:
    """The tokens that earlier groups took in this step, the vocabulary's size for the others."""
    token = jnp.take(front.others, front.step, axis=2)
    return jnp.where(front.counted, token, front.logp.shape[2])


def tally(
    tokens: Int[Array, "B X N"], amount: Float[Array, "B X N"], vocab: int
) -> Float[Array, "B X V"]:
    """Amounts added up by token; tokens outside the vocabulary are dropped."""
    rows, places = (jnp.arange(n) for n in tokens.shape[:2])
    zero = jnp.zeros((*tokens.shape[:2], vocab), jnp.float32)
    return zero.at[rows[:, None, None], places[:, None], tokens].add(amount, mode="drop")


@struct.dataclass
class Hamming:
    """How many earlier hypotheses took the token in this step; the paper's best."""

    nonnegative = True

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        taken = newest(front)[:, None]
        return tally(taken, jnp.ones(taken.shape), front.logp.shape[2])


@struct.dataclass
class Cumulative:
    """exp(-D / temperature), D counting the steps in which two hypotheses differ, this one too.

    As an additive dissimilarity, which the printed formula means, it enters with a minus.

    Attributes:
      temperature: above 0; infinite, nothing is told apart.
      gated: static; only the very token of the other hypothesis is penalised, so that an
        infinite temperature is `Hamming`.
    """

    nonnegative = True

    temperature: Float[Array, ""] | float = 1.0
    gated: bool = struct.field(pytree_node=False, default=False)

    def __post_init__(self) -> None:
        endless = isinstance(self.temperature, float) and self.temperature == float("inf")
        if not endless:
            check_number("temperature", self.temperature, 0.0, above=True)

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        before = jnp.arange(front.tokens.shape[2]) < front.step
        differ = front.tokens[:, :, None] != front.others[:, None]
        distance = jnp.sum(differ & before, axis=3).astype(jnp.float32)  # [B, W, M]
        same, other = (jnp.exp(-d / self.temperature) for d in (distance, distance + 1.0))
        taken = jnp.broadcast_to(newest(front)[:, None], same.shape)
        if self.gated:
            return tally(taken, same, front.logp.shape[2])
        every = jnp.sum(jnp.where(front.counted[:, None], other, 0.0), axis=2)
        return every[..., None] + tally(taken, same - other, front.logp.shape[2])


def suffix(front: Front, count: int) -> Int[Array, "B W count"]:
    """The last `count` tokens of the group's hypotheses; there must be as many."""
    index = jnp.maximum(front.step - count, 0) + jnp.arange(count)
    return jnp.take(front.tokens, index, axis=2)


def windows(front: Front, n: int) -> tuple[Int[Array, "B M X n"], Array]:
    """The n-grams of earlier hypotheses, at most as far as this step, and which are there."""
    room = front.others.shape[2]
    start = jnp.arange(max(room - n + 1, 0))
    index = start[:, None] + jnp.arange(n)
    there = (start + n <= front.step + 1) & front.counted[..., None]
    return jnp.take(front.others, index, axis=2), there


@struct.dataclass
class Ngram:
    """How often the n-gram that the token completes occurs in earlier hypotheses, anywhere.

    Attributes:
      sizes: static, values of n, added up.
    """

    nonnegative = True

    sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(2,))

    def __post_init__(self) -> None:
        check_sizes(self.sizes)

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        vocab = front.logp.shape[2]
        total = jnp.zeros(front.logp.shape)
        for n in self.sizes:
            gram, there = windows(front, n)  # [B, M, X, n]
            own = suffix(front, n - 1)[:, :, None, None]
            same = jnp.all(gram[:, None, ..., :-1] == own, axis=4) & there[:, None]
            last = jnp.where(same, gram[:, None, ..., -1], vocab)
            last = last.reshape(*last.shape[:2], -1)
            counted = jnp.where(front.step >= n - 1, 1.0, 0.0)
            total += tally(last, jnp.full(last.shape, counted), vocab)
        return total


@struct.dataclass
class Embedded:
    """Likeness of vectors in place of equality: cosines of sums of n token vectors.

    With n = 1 that of the token and those taken in this step, a soft `Hamming`; above, that of
    the n-gram which the token completes and every n-gram of earlier hypotheses.

    Attributes:
      table: f32[V, D], a vector for each token.
      n: static.
    """

    nonnegative = False

    table: Float[Array, "V D"]
    n: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        check_sizes((self.n,))

    @classmethod
    def of(cls, model: LayeredModel, n: int = 1) -> Embedded:
        """From the model's input embeddings, centred."""
        table = model.embed(jnp.arange(model.vocab_size)[None])[0].astype(jnp.float32)
        return cls(table - jnp.mean(table, axis=0), n)

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        if self.n == 1:
            taken = newest(front)
            vectors = unit(self.table[jnp.minimum(taken, len(self.table) - 1)])
            vectors = jnp.where(front.counted[..., None], vectors, 0.0)
            own = jnp.zeros((*front.score.shape, self.table.shape[1]))
        else:
            gram, there = windows(front, self.n)
            vectors = unit(jnp.sum(self.table[gram], axis=3))
            vectors = jnp.where(there[..., None], vectors, 0.0)
            own = jnp.sum(self.table[suffix(front, self.n - 1)], axis=2)
        pull = jnp.sum(vectors.reshape(len(vectors), -1, vectors.shape[-1]), axis=1)  # [B, D]
        # cos(own + e(v), u) summed over u: the norm of own + e(v) in parts, no [B, W, V, D].
        along = jnp.einsum("bwd,bd->bw", own, pull)[..., None] + (pull @ self.table.T)[:, None]
        square = jnp.sum(own**2, axis=2)[..., None] + jnp.sum(self.table**2, axis=1)
        square += 2.0 * jnp.einsum("bwd,vd->bwv", own, self.table)
        cosines = along / jnp.sqrt(jnp.maximum(square, 1e-12))
        return jnp.where(front.step >= self.n - 1, cosines, 0.0)


def unit(vectors: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Vectors of length one; zero stays zero."""
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def check_sizes(sizes: tuple[int, ...]) -> None:
    """Refuse n-grams of no token."""
    if not sizes or min(sizes) < 1:
        raise ValueError(f"n-grams of sizes {sizes}: at least one size is needed, each >= 1")
