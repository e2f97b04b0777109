"""Heads that know what was guessed before them (Clover, Xiao et al. 2024, arXiv 2405.00263).

An augmenting block, one layer over the whole text, turns the target's final hidden states into
h_0. Head i = 1..n then takes in e_{i-1}, the embedding of the token guessed before it:

    h_i = h_{i-1} + SiLU(cos(W_Q RMSNorm(h_{i-1}), W_K e_{i-1}) W_V e_{i-1})     head by head,
    p_i = softmax(U (h_i + SiLU(M_i h_i + b_i))),

with U the target's output matrix and e a row of it at unit length. A query has a single key, so
a softmax over keys would always be 1 and W_Q, W_K would never learn; the cosine is the weight
itself. W_V, M and b start at zero, W_Q and W_K near the identity, the block as a copy of the
target's last layer.

Deliberate choice where the paper is silent: one set of W_Q, W_K, W_V serves all heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import Cache
from jaxdecode.lm import ModelCost, View
from jaxdecode.train.frozen import Exit, Reading
from jaxdecode.types import Array, Float, Int
from models.config import TransformerConfig
from models.heads.block import Block
from models.transformer import Transformer

Augment = Literal["layer", "attention", "mlp", "none"]
Connection = Literal["decoder", "concat", "none"]
Gate = Literal["cosine", "scaled_dot"]
TINY = 1e-6


class Clover(nnx.Module):
    """See the module.

    Attributes:
      augment: static; the block's halves, or "none".
      connection: static; "decoder" is the equation above, "concat" a linear map of h and e in
        its place, "none" leaves h as it is.
      gate: static; the weight of a value, its key's cosine or its scaled product with the query.
      silu: static; whether the SiLU stands before the sum.
      query, key, value: [D, D] (decoder); mix: [2 D, D] (concat).
      inner, inner_bias: [n, D, D] and [n, D], M and b.
    """

    def __init__(
        self,
        config: TransformerConfig,
        count: int = 3,
        *,
        augment: Augment = "layer",
        connection: Connection = "decoder",
        gate: Gate = "cosine",
        silu: bool = True,
        block: Block | None = None,
        rngs: nnx.Rngs,
    ):
        """`block` is the augmenting block; a random one of `config` where none is given."""
        choices = {
            "augment": (augment, ("layer", "attention", "mlp", "none")),
            "connection": (connection, ("decoder", "concat", "none")),
            "gate": (gate, ("cosine", "scaled_dot")),
        }
        for name, (given, known) in choices.items():
            if given not in known:
                raise ValueError(f"{name}={given!r} must be one of {', '.join(known)}")
        if count < 1:
            raise ValueError(f"count={count}: at least one head is needed")
        width, dtype = config.hidden, config.dtype
        self.config, self.gate, self.silu = config, gate, silu
        self.augment, self.connection = augment, connection
        if block is None and augment != "none":
            block = Block(config, augment, rngs=rngs)
        self.block = block

        def near_identity() -> nnx.Param:
            noise = jax.random.normal(rngs.params(), (width, width), jnp.float32)
            return nnx.Param((jnp.eye(width) + 0.01 * noise).astype(dtype))

        if connection != "none":
            self.norm = nnx.Param(jnp.ones((width,), dtype))
        if connection == "decoder":
            self.query, self.key = near_identity(), near_identity()
            self.value = nnx.Param(jnp.zeros((width, width), dtype))
        elif connection == "concat":
            self.mix = nnx.Param(jnp.zeros((2 * width, width), dtype))
        self.inner = nnx.Param(jnp.zeros((count, width, width), dtype))
        self.inner_bias = nnx.Param(jnp.zeros((count, width), dtype))

    @classmethod
    def of(cls, target: Transformer, *, rngs: nnx.Rngs, **settings) -> Clover:
        """Heads of a target as the paper begins them."""
        augment = settings.get("augment", "layer")
        block = None if augment == "none" else Block.last_of(target, augment)
        return cls(target.config, block=block, rngs=rngs, **settings)

    @property
    def settings(self) -> Mapping[str, Any]:
        names = ("count", "augment", "connection", "gate", "silu")
        return {name: getattr(self, name) for name in names}

    @property
    def count(self) -> int:
        """n, the depth of a draft."""
        return self.inner[...].shape[0]

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def guessing(self) -> ModelCost:
        """Of one guess, the output matrix included."""
        width = self.config.hidden
        squares = {"decoder": 3, "concat": 2, "none": 0}[self.connection] + 1
        return ModelCost(squares * width**2 + width * self.vocab_size, 0, 0)

    @property
    def absorbing(self) -> ModelCost:
        """Of taking in one token of the text."""
        return ModelCost(0, 0, 0) if self.block is None else self.block.cost

    def init_cache(self, batch: int, capacity: int) -> Cache | None:
        """Of the augmenting block."""
        return None if self.block is None else self.block.init_cache(batch, capacity)

    def absorb(
        self, target: Any, hidden: Float[Array, "B T D"], cache: Cache | None, view: View
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """h_0 at every new token of the text."""
        return (hidden, cache) if self.block is None else self.block(hidden, cache, view)

    def guess(
        self, target: Any, index: int, hidden: Float[Array, "B N D"], token: Int[Array, "B N"]
    ) -> tuple[Float[Array, "B N V"], Float[Array, "B N D"]]:
        """Logits of head `index` (from 0), and h for the next head; `token` is the one before."""
        if self.connection != "none":
            rows = target.output_rows(token)
            length = jnp.linalg.norm(rows.astype(jnp.float32), axis=-1, keepdims=True)
            hidden = self._connect(hidden, (rows / jnp.maximum(length, TINY)).astype(rows.dtype))
        mixed = hidden + jax.nn.silu(hidden @ self.inner[index] + self.inner_bias[index])
        return target.unembed(mixed), hidden

    def _connect(
        self, hidden: Float[Array, "B N D"], embedding: Float[Array, "B N D"]
    ) -> Float[Array, "B N D"]:
        """h_i from h_{i-1} and e_{i-1}."""
        wide = hidden.astype(jnp.float32)
        power = jnp.mean(wide * wide, axis=-1, keepdims=True)
        unit = wide * jax.lax.rsqrt(power + self.config.norm_eps)
        seen = unit.astype(hidden.dtype) * self.norm[...]
        if self.connection == "concat":
            out = jnp.concatenate([seen, embedding], axis=-1) @ self.mix[...]
        else:
            heads = (*hidden.shape[:-1], self.config.heads, -1)
            q, k, v = (
                (x @ w[...]).reshape(heads)
                for x, w in ((seen, self.query), (embedding, self.key), (embedding, self.value))
            )
            weight = jnp.sum(q * k, axis=-1, keepdims=True)
            if self.gate == "cosine":
                weight = weight * jax.lax.rsqrt(_square(q) * _square(k) + TINY**2)
            else:
                weight = weight * q.shape[-1] ** -0.5
            out = (weight * v).reshape(hidden.shape)
        return hidden + (jax.nn.silu(out) if self.silu else out)

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        """Head i is shown the true token before the one it predicts."""
        exits = []
        hidden, _ = self.absorb(target, reading.hidden, None, reading.view)
        for index in range(self.count):
            before = ahead(reading.tokens, index + 1)
            logits, hidden = self.guess(target, index, hidden, before)
            exits.append(Exit(logits, ahead=index + 2))
        return tuple(exits)


def ahead(tokens: Int[Array, "B T"], places: int) -> Int[Array, "B T"]:
    """The tokens `places` further on; the last one where there is none."""
    index = jnp.minimum(jnp.arange(tokens.shape[1]) + places, tokens.shape[1] - 1)
    return jnp.take(tokens, index, axis=1)


def _square(x: Float[Array, "... D"]) -> Float[Array, "... 1"]:
    return jnp.sum(x * x, axis=-1, keepdims=True)
