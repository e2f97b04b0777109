"""An adapter that lets the target exit early (Kangaroo, Liu et al. 2024, arXiv 2404.18911).

From the residual stream f after the target's first l layers,

    u = f + attention(RMSNorm(f)),    q = softmax(U RMSNorm'(u)),

with U the target's output matrix. The second norm takes the place of the target's last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import Cache
from jaxdecode.lm import ModelCost, View
from jaxdecode.train.frozen import Exit, Reading
from jaxdecode.types import Array, Float
from models.config import TransformerConfig
from models.heads.block import Block
from models.layers import normalize
from models.transformer import Transformer

Kind = Literal["attention", "layer", "mlp", "none"]


class Kangaroo(nnx.Module):
    """See the module.

    Attributes:
      layers: static, l.
      kind: static; the adapter's halves. "none" has no adapter: the target's last norm reads f.
      block, norm: the adapter and its second norm.
      head: [D, V], an output matrix of its own in place of the target's, or None.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layers: int = 1,
        *,
        kind: Kind = "attention",
        head: Array | None = None,
        rngs: nnx.Rngs,
    ):
        if not 0 <= layers <= config.layers:
            raise ValueError(f"layers={layers}: the target has {config.layers}")
        plain = replace(config, norm="rms", pre_norm=True, output_norms=False, qk_norm=False)
        plain = replace(plain, input_norms=True, whole_qk_norm=False, residual_scale=1.0)
        plain = replace(plain, qkv_bias=False, out_bias=False, mlp_bias=False)
        self.config, self.layers, self.kind = plain, layers, kind
        self.block = None if kind == "none" else Block(plain, kind, rngs=rngs)
        one = jnp.ones((config.hidden,), config.dtype)
        self.norm = None if kind == "none" else nnx.Param(one)
        self.head = None if head is None else nnx.Param(head)

    @classmethod
    def of(
        cls,
        target: Transformer,
        *,
        layers: int = 1,
        kind: Kind = "attention",
        own_head: bool = False,
        rngs: nnx.Rngs,
    ) -> Kangaroo:
        """An adapter of a target, with a copy of its output matrix if `own_head`."""
        head = target.output_rows(jnp.arange(target.vocab_size)).T if own_head else None
        return cls(target.config, layers, kind=kind, head=head, rngs=rngs)

    @property
    def settings(self) -> Mapping[str, Any]:
        own = self.head is not None
        return {"layers": self.layers, "kind": self.kind, "own_head": own}

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def cost(self) -> ModelCost:
        """Of one token, adapter and output matrix; the target's layers are not counted."""
        output = self.config.hidden * self.vocab_size
        if self.block is None:
            return ModelCost(output, 0, 0)
        own = self.block.cost
        return ModelCost(own.parameters + output, own.attention, own.cache_bytes)

    def init_cache(self, batch: int, capacity: int) -> Cache | None:
        return None if self.block is None else self.block.init_cache(batch, capacity)

    def __call__(
        self, target: Any, stream: Float[Array, "B T D"], cache: Cache | None, view: View
    ) -> tuple[Float[Array, "B T V"], Cache | None]:
        """Logits of the next token from the residual stream after `layers` layers."""
        if self.block is None or self.norm is None:
            hidden = target.final(stream)
        else:
            hidden, cache = self.block(stream, cache, view)
            hidden = normalize(self.config, {"norm": self.norm[...]}, "norm", hidden)
        if self.head is None:
            return target.unembed(hidden), cache
        logits = jnp.matmul(hidden, self.head[...], preferred_element_type=jnp.float32)
        return logits, cache

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        stream = reading.streams[self.layers]
        logits, _ = self(target, stream, None, reading.view)
        return (Exit(logits, ahead=1),)
