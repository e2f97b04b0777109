"""A layer that drafts the target's hidden states (EAGLE, Li et al. 2024, arXiv 2401.15077).

From the final hidden state f_i and the token behind it,

    g_{i+1} = layer(F [embed(x_{i+1}); f_i] + b)       estimates f_{i+1},

and the target's output matrix turns it into a law of x_{i+2}. Embedding and output matrix are
the target's. Deliberate differences from the authors' code: the layer normalises its input as
the target's layers do, and F starts as the identity on f with small noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import Cache
from jaxdecode.lm import ModelCost, View
from jaxdecode.train.frozen import Exit, Reading
from jaxdecode.types import Array, Float, Int
from models.config import TransformerConfig
from models.heads.block import Block
from models.heads.clover import ahead
from models.transformer import Transformer


class Eagle(nnx.Module):
    """Attributes: fuse [2 D, D] and fuse_bias [D], F and b; block, the layer."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        width = config.hidden
        noise = 0.02 * jax.random.normal(rngs.params(), (2 * width, width), jnp.float32)
        start = jnp.eye(2 * width, width, -width)
        self.fuse = nnx.Param((start + noise).astype(config.dtype))
        self.fuse_bias = nnx.Param(jnp.zeros((width,), config.dtype))
        self.block = Block(config, rngs=rngs)

    @classmethod
    def of(cls, target: Transformer, *, rngs: nnx.Rngs) -> Eagle:
        return cls(target.config, rngs=rngs)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {}

    @property
    def vocab_size(self) -> int:
        return self.block.config.vocab_size

    @property
    def cost(self) -> ModelCost:
        """Of one token, the output matrix included."""
        own, width = self.block.cost, self.block.config.hidden
        fixed = self.fuse[...].size + width * self.vocab_size
        return ModelCost(own.parameters + fixed, own.attention, own.cache_bytes)

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return self.block.init_cache(batch, capacity)

    def __call__(
        self,
        target: Any,
        feature: Float[Array, "B T D"],
        tokens: Int[Array, "B T"],
        cache: Cache | None,
        view: View,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Estimates of the hidden states of `tokens`, from those of the tokens before them."""
        pair = jnp.concatenate([target.embed(tokens).astype(feature.dtype), feature], axis=-1)
        return self.block(pair @ self.fuse[...] + self.fuse_bias[...], cache, view)

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        feature, _ = self(target, reading.hidden, ahead(reading.tokens, 1), None, reading.view)
        return (Exit(target.unembed(feature), ahead=2, feature=feature),)
