"""One decoder layer, or half of one, with a cache of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import Cache, allocate
from jaxdecode.lm import ModelCost, View
from jaxdecode.target import target_of
from jaxdecode.types import Array, Float
from models.config import TransformerConfig
from models.layer import Call, attention_half, mlp_half
from models.parameters import matmul_count, parameters
from models.transformer import Transformer

Parts = Literal["layer", "attention", "mlp"]
MLP = ("mlp_norm", "router", "gate", "up", "down", "mlp_output_norm")
PREFIX = "layers/"


class Block(nnx.Module):
    """A residual layer like those of a `TransformerConfig`.

    Attributes:
      config: the layer's, of one layer.
      parts: static; which halves it has.
      weights: name -> array, as a transformer's `layers` has them but for the leading axis.
    """

    def __init__(
        self,
        config: TransformerConfig,
        parts: Parts = "layer",
        *,
        rngs: nnx.Rngs | None = None,
        arrays: Mapping[str, Array] | None = None,
    ):
        """Random weights, or those of `arrays`."""
        if parts not in ("layer", "attention", "mlp"):
            raise ValueError(f"parts={parts!r} must be layer, attention or mlp")
        self.config = config.part(config.layers - 1, config.layers)
        self.parts: Parts = parts
        weights = {}
        for path, want in parameters(self.config).items():
            name = path.removeprefix(PREFIX)
            if name == path or not self._has(name):
                continue
            if arrays is not None:
                weights[name] = nnx.Param(arrays[name])
                continue
            array = jnp.full(want.shape[1:], want.fill, config.dtype)
            if want.spread:
                assert rngs is not None, "Block: pass either rngs or arrays"
                noise = jax.random.normal(rngs.params(), array.shape, jnp.float32)
                array = (noise * want.spread).astype(config.dtype)
            weights[name] = nnx.Param(array)
        self.weights = nnx.Dict(weights)

    @classmethod
    def last_of(cls, target: Transformer, parts: Parts = "layer") -> Block:
        """A copy of a model's last layer."""
        return cls(target.config, parts, arrays=target.layer(target.config.layers - 1))

    def _has(self, name: str) -> bool:
        half = "mlp" if name.removesuffix("_bias") in MLP else "attention"
        return self.parts in ("layer", half)

    @property
    def cost(self) -> ModelCost:
        arrays = [p[...] for p in self.weights.values()]
        attends = self.parts != "mlp"
        return ModelCost(
            parameters=matmul_count(self.config, {PREFIX + name for name in self.weights}),
            attention=4 * self.config.q_width if attends else 0,
            cache_bytes=2 * self.config.kv_width * arrays[0].dtype.itemsize if attends else 0,
        )

    def init_cache(self, batch: int, capacity: int) -> Cache:
        c, weight = self.config, next(iter(self.weights.values()))[...]
        target = target_of(weight)
        return allocate(1, batch, c.kv_heads, c.head_dim, capacity, weight.dtype, target=target)

    def __call__(
        self, hidden: Float[Array, "B T D"], cache: Cache | None, view: View
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Run new tokens; without a cache the view must be fresh, and nothing is stored."""
        c, weights = self.config, {name: p[...] for name, p in self.weights.items()}
        call, cache = Call.of(c, view, cache, hidden)
        if self.parts != "mlp":
            local = bool(c.sliding) and c.sliding[0]
            hidden, cache = attention_half(c, weights, 0, hidden, cache, call, local)
        if self.parts != "attention":
            hidden = mlp_half(c, weights, hidden, call)
        return hidden, cache
