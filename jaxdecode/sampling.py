"""Random keys per row, samplers, and the draws that speculation is made of.

Keys are typed and one per row, folded from seed, stream, example, sample and step: what a row
draws depends on neither its batch, its padding, its place nor how many samples there are, and
no key is used twice.

A row is unusable if a logit is NaN or +inf, or if all are -inf. Samplers draw -1 on it, and
its distribution is all zero, so that an engine can mark the row instead of emitting noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable

import chex
import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int, Key


def row_keys(
    key: Key[Array, ""], ids: Int[Array, "R"], samples: Int[Array, "R"], stream: int = 0
) -> Key[Array, "R"]:
    """One key per row from its example id and sample id.

    `stream` separates purposes that draw for the same row: 0 is the tokens of the model.
    """
    key = jax.random.fold_in(key, stream)
    fold = jax.vmap(jax.random.fold_in)
    return fold(jax.vmap(lambda i: jax.random.fold_in(key, i))(ids), samples)


def step_keys(keys: Key[Array, "R"], step: Int[Array, "R"]) -> Key[Array, "R"]:
    """The rows' keys of one step."""
    return jax.vmap(jax.random.fold_in)(keys, step)


@runtime_checkable
class Sampler(Protocol):
    """Draws one token per row."""

    def __call__(self, keys: Key[Array, "R"], logits: Float[Array, "R V"]) -> Int[Array, "R"]:
        """Tokens i32[R], -1 on an unusable row."""
        ...

    def distribution(self, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        """The probabilities that tokens are drawn with."""
        ...


@struct.dataclass
class Greedy:
    """The most probable token, the first one of a tie."""

    def __call__(self, keys: Key[Array, "R"], logits: Float[Array, "R V"]) -> Int[Array, "R"]:
        return argmax(logits)

    def distribution(self, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return jax.nn.one_hot(argmax(logits), logits.shape[1], dtype=jnp.float32)


@struct.dataclass
class Categorical:
    """A draw from the softmax of the logits, by inverse CDF on two levels."""

    def __call__(self, keys: Key[Array, "R"], logits: Float[Array, "R V"]) -> Int[Array, "R"]:
        return draw(keys, weights(logits))

    def distribution(self, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        weight = weights(logits)
        total = jnp.sum(weight, axis=1, keepdims=True)
        return jnp.where(total > 0, weight / total, 0.0)


def argmax(logits: Float[Array, "R V"]) -> Int[Array, "R"]:
    """The first most probable token; -1 on an unusable row."""
    chex.assert_rank(logits, 2)
    # Two plain reductions take a quarter of the time of an argmax on CPU.
    top = jnp.max(logits, axis=1, keepdims=True)
    index = jnp.arange(logits.shape[1], dtype=jnp.int32)
    first = jnp.min(jnp.where(logits == top, index, logits.shape[1]), axis=1)
    return jnp.where(jnp.isfinite(top[:, 0]), first, -1)


def weights(logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
    """Unnormalised probabilities, the largest of a row being 1; 0 on an unusable row."""
    chex.assert_rank(logits, 2)
    top = jnp.max(logits, axis=1, keepdims=True)
    usable = jnp.isfinite(top)
    return jnp.where(usable, jnp.exp(logits - jnp.where(usable, top, 0.0)), 0.0)


def draw(keys: Key[Array, "R"], weight: Float[Array, "R V"]) -> Int[Array, "R"]:
    """One token per row with probability proportional to `weight` >= 0.

    About sqrt(V) blocks are summed; one uniform picks a block and another a token in it, so
    that a small weight is not lost beside the sum of all. A token of weight zero is never
    drawn. -1 where no weight is positive or a weight is not finite.
    """
    chex.assert_rank(weight, 2)
    chex.assert_equal_shape_prefix([keys, weight], 1)
    rows, vocab = weight.shape
    width = math.isqrt(vocab - 1) + 1
    count = -(-vocab // width)
    blocks = jnp.pad(weight, ((0, 0), (0, count * width - vocab))).reshape(rows, count, width)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
    total = jnp.sum(blocks, axis=2)
    block = _invert(total, uniform[:, 0])
    inner = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    token = block * width + _invert(inner, uniform[:, 1])
    mass = jnp.sum(total, axis=1)
    return jnp.where((mass > 0) & (mass < jnp.inf), token, -1)


def _invert(weight: Float[Array, "R N"], uniform: Float[Array, "R"]) -> Int[Array, "R"]:
    """The first index whose cumulative weight exceeds `uniform` of the total.

    A prefix sum of floats is not quite monotone and may fall short of the target: only
    positive weights are eligible, and the last of them is the answer when none exceeds.
    """
    cumulative = jnp.cumsum(weight, axis=1)
    beyond = cumulative > (uniform * cumulative[:, -1])[:, None]
    eligible = weight > 0
    last = weight.shape[1] - 1 - jnp.argmax(eligible[:, ::-1], axis=1)
    hit = beyond & eligible
    return jnp.where(jnp.any(hit, axis=1), jnp.argmax(hit, axis=1), last).astype(jnp.int32)


def draw_many(keys: Key[Array, "R"], logits: Float[Array, "R V"], count: int) -> Int[Array, "R N"]:
    """`count` independent tokens per row, with replacement; the first n do not depend on it."""
    weight = weights(logits)
    steps = jnp.broadcast_to(jnp.arange(count)[:, None], (count, logits.shape[0]))
    return jax.lax.map(lambda step: draw(step_keys(keys, step), weight), steps).T


def gumbel(keys: Key[Array, "R"], vocab: int) -> Float[Array, "R V"]:
    """Standard Gumbel noise, a row for every key."""
    return jax.vmap(lambda key: jax.random.gumbel(key, (vocab,)))(keys)


def gumbel_argmax(keys: Key[Array, "R"], logits: Float[Array, "R V"]) -> Int[Array, "R"]:
    """A draw from the softmax that is coupled through its key.

    Two models that draw with one key share the noise, and agree wherever their distributions
    let them. -1 on an unusable row.
    """
    return argmax(logits + gumbel(keys, logits.shape[1]))


def likeliest(
    logits: Float[Array, "... V"], k: int, name: str = "k"
) -> tuple[Float[Array, "... k"], Int[Array, "... k"]]:
    """The k largest logits of every row and their tokens, in falling order.

    Raises:
      ValueError: naming `name`, when traced, if the vocabulary has fewer tokens.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"{name}={k} must lie in 1..{logits.shape[-1]}, the vocabulary's size")
    values, tokens = jax.lax.top_k(logits, k)
    return values, tokens


class Ranked(NamedTuple):
    """k distinct tokens per row, in the order in which they were drawn.

    Attributes:
      index: i32[R, k] tokens.
      perturbed: f32[R, k] log-probability plus Gumbel noise, decreasing; -inf marks a place
        for which no token of positive probability was left.
      logprob: f32[R, k] log-probability.
    """

    index: Array
    perturbed: Array
    logprob: Array


def gumbel_top_k(keys: Key[Array, "R"], logits: Float[Array, "R V"], k: int) -> Ranked:
    """k tokens drawn one after the other without replacement (Kool et al. 2019,
    arXiv:1903.06059). Unusable rows have no token: every place is -inf.

    Raises:
      ValueError: if k is not in 1..V.
    """
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k={k} must lie in 1..{logits.shape[1]}, the vocabulary's size")
    logprob = jnp.where(usable(logits)[:, None], jax.nn.log_softmax(logits, axis=1), -jnp.inf)
    perturbed, index = jax.lax.top_k(logprob + gumbel(keys, logits.shape[1]), k)
    return Ranked(index, perturbed, jnp.take_along_axis(logprob, index, axis=1))


def conditioned(
    gamma: Float[Array, "... W"], perturbed: Float[Array, "... W C"]
) -> Float[Array, "... W C"]:
    """Perturbed scores whose maximum over the last axis is made to be `gamma`; -inf stays -inf.

    With Z their maximum: -log(exp(-gamma) - exp(-Z) + exp(-perturbed)), by Kool et al. 2019.
    """
    there = jnp.isfinite(perturbed)
    top = jnp.max(perturbed, axis=-1, keepdims=True)
    safe = jnp.where(there, perturbed, 0.0)
    below = jnp.where(there, safe - jnp.where(there, top, 0.0), -jnp.inf)
    over = gamma[..., None] - safe + jnp.log1p(-jnp.exp(below))
    limited = gamma[..., None] - jnp.maximum(over, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(over)))
    return jnp.where(there, limited, -jnp.inf)


def usable(logits: Float[Array, "R V"]) -> Bool[Array, "R"]:
    """Rows that a token can be drawn from."""
    return jnp.isfinite(jnp.max(logits, axis=1))


def residual(p: Float[Array, "... V"], q: Float[Array, "... V"]) -> Float[Array, "... V"]:
    """max(p - q, 0), normalised: what is left of p after a token drawn from q was rejected.

    Where nothing is left p and q are equal up to rounding, no rejection is due, and p is
    returned.
    """
    left = jnp.maximum(p - q, 0.0)
    total = jnp.sum(left, axis=-1, keepdims=True)
    return jnp.where(total > 0, left / jnp.where(total > 0, total, 1.0), p)


def sample_residual(
    keys: Key[Array, "R"], p: Float[Array, "R V"], q: Float[Array, "R V"]
) -> Int[Array, "R"]:
    """A draw from `residual(p, q)`."""
    return draw(keys, residual(p, q))
