"""Finished hypotheses: the best of every group so far, and how different lengths compare."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.logits.transform import check_number
from jaxdecode.result import Status
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class LengthPenalty:
    """Divides the score of a hypothesis of L tokens by lp(L).

    Attributes:
      alpha: 0 for none; above 0 favours long hypotheses, below short ones.
      form: static; "power" for L ** alpha, "gnmt" for ((5 + L) / 6) ** alpha (Wu et al. 2016,
        arXiv:1609.08144).
    """

    alpha: Float[Array, ""] | float = 0.0
    form: Literal["power", "gnmt"] = struct.field(pytree_node=False, default="power")

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, -jnp.inf, fix="; 0 is no penalty")
        if self.form not in ("power", "gnmt"):
            raise ValueError(f"form={self.form!r}: choose 'power' or 'gnmt'")

    def __call__(self, length: Int[Array, "..."] | int) -> Float[Array, "..."]:
        """lp of positive lengths."""
        length = jnp.asarray(length, jnp.float32)
        return (length if self.form == "power" else (5.0 + length) / 6.0) ** self.alpha

    def attainable(
        self, score: Float[Array, "..."], shortest: Int[Array, ""], longest: int
    ) -> Float[Array, "..."]:
        """The highest normalised score of a hypothesis that ends with shortest..longest tokens,
        if its score so far, `score` <= 0, can only fall."""
        return score / jnp.maximum(self(shortest), self(longest))


@struct.dataclass
class Listed:
    """K finished hypotheses of each prompt, best first; those not `there` are empty.

    Attributes are those of `Finished`, and the group that each is of.
    """

    tokens: Int[Array, "B K L"]
    length: Int[Array, "B K"]
    status: Int[Array, "B K"]
    rank: Float[Array, "B K"]
    score: Float[Array, "B K"]
    total: Float[Array, "B K"]
    logprob: Float[Array, "B K"]
    group: Int[Array, "B K"]

    @property
    def there(self) -> Bool[Array, "B K"]:
        return self.length > 0


@struct.dataclass
class Finished:
    """The W best finished hypotheses of G groups for each of B prompts, best first;
    [B, W] of beams without groups.

    Attributes:
      rank: f32[B, G, W], the normalised score that they are ordered by; -inf on empty places.
      score: f32[B, G, W], that of the search.
      total: f32[B, G, W], sum of the edited log-probabilities.
      logprob: f32[B, G, W], sum of the raw ones.
      tokens: i32[B, G, W, L], zero past the length.
      length: i32[B, G, W].
      status: i8[B, G, W], EOS or LENGTH.
    """

    rank: Float[Array, "*batch W"]
    score: Float[Array, "*batch W"]
    total: Float[Array, "*batch W"]
    logprob: Float[Array, "*batch W"]
    tokens: Int[Array, "*batch W L"]
    length: Int[Array, "*batch W"]
    status: Int[Array, "*batch W"]

    @classmethod
    def none(cls, batch: int, groups: int, width: int, room: int) -> Finished:
        """Room for W hypotheses in each group, and nobody in it."""
        shape = (batch, groups, width)
        nothing = jnp.full(shape, -jnp.inf)
        return cls(
            rank=nothing,
            score=nothing,
            total=nothing,
            logprob=nothing,
            tokens=jnp.zeros((*shape, room), jnp.int32),
            length=jnp.zeros(shape, jnp.int32),
            status=jnp.full(shape, Status.INVALID, jnp.int8),
        )

    @property
    def full(self) -> Bool[Array, "B G"]:
        """Whether all W places of a group are taken."""
        return jnp.all(jnp.isfinite(self.rank), axis=2)

    @property
    def worst(self) -> Float[Array, "B G"]:
        """The lowest rank; -inf while a place is free."""
        return self.rank[:, :, -1]

    def at(self, index: Int[Array, "B G I"]) -> Finished:
        """Places `index` of every group."""
        return jax.tree.map(
            lambda x: jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 3)), 2),
            self,
        )

    def merged(self, other: Finished) -> Finished:
        """The W best of both; those that were here stay on a tie."""
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=2), self, other)
        return both.at(jax.lax.top_k(both.rank, self.rank.shape[2])[1])

    def listed(self, key: Float[Array, "B G W"]) -> Listed:
        """All groups' hypotheses, the largest key first; the earlier group on a tie."""
        batch, groups, width = self.rank.shape
        key = jnp.where(jnp.isfinite(self.rank), key, -jnp.inf).reshape(batch, -1)
        order = jnp.argsort(-key, axis=1, stable=True)

        def flat(array: Array) -> Array:
            array = array.reshape(batch, groups * width, *array.shape[3:])
            return jnp.take_along_axis(
                array, order.reshape(*order.shape, *[1] * (array.ndim - 2)), 1
            )

        there = jnp.isfinite(flat(self.rank))
        return Listed(
            tokens=jnp.where(there[..., None], flat(self.tokens), 0),
            length=jnp.where(there, flat(self.length), 0),
            status=jnp.where(there, flat(self.status), Status.INVALID).astype(jnp.int8),
            rank=flat(self.rank),
            score=jnp.where(there, flat(self.score), -jnp.inf),
            total=jnp.where(there, flat(self.total), -jnp.inf),
            logprob=jnp.where(there, flat(self.logprob), -jnp.inf),
            group=order // width,
        )
