"""One decoder layer as functions of its weights: attention, then an MLP, each a half.

What all layers of a call share is prepared once, as a `Call`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode.cache import Cache, Places, place, places, read, write
from jaxdecode.lm import View
from jaxdecode.target import target_of
from jaxdecode.types import Array, Float, Int
from models.attention import Sight, attend, attend_fused, attend_streaming
from models.config import TransformerConfig
from models.experts import mix
from models.layers import Weights, linear, mlp, normalize
from models.rope import rotate, rotation

Hidden = Float[Array, "B T D"]


class Call(NamedTuple):
    """Where the tokens of a call go, what they see, and their rotary tables.

    `base` is the layer of the cache that the model's first layer has.
    """

    view: View
    slot: Places | None
    sight: Sight
    tables: list[tuple[Array, Array]]
    base: int

    @classmethod
    def of(
        cls,
        config: TransformerConfig,
        view: View,
        cache: Cache | None,
        hidden: Hidden,
        length: Int[Array, "B L"] | None = None,
        base: int = 0,
    ) -> tuple[Call, Cache | None]:
        """Also records the tokens' positions in the cache; `hidden` is the layers' input.

        Without a cache the view must be fresh, and nothing is stored.

        Args:
          length: see `rotation`; by default a text that is read without a cache is one of its
            own length, and a token that goes into a cache ends the text it is rotated for.
        """
        if cache is None and not view.fresh:
            raise ValueError("cache=None needs a fresh view: there is no prefix to see")
        slot = None
        if cache is not None:
            slot = view.slot(cache.capacity)
            cache = place(cache, view.position, slot)
            slot = places(cache, slot)
        sight = Sight.of(config, view, cache, hidden.dtype, target_of(hidden, cache))
        ropes = [rope for rope in (config.rope, config.rope_local) if rope is not None]
        if length is None:
            end = view.position + 1
            whole = jnp.max(jnp.where(view.valid, end, 0), axis=1, keepdims=True)
            length = whole if cache is None else end
        tables = [rotation(rope, view.position, length) for rope in ropes]
        return cls(view, slot, sight, tables, base), cache


def attention_half(
    c: TransformerConfig, weights: Weights, index, hidden: Hidden, cache, call: Call, local
) -> tuple[Hidden, Cache | None]:
    """Add what layer `index` of the cache attends to; `local` says whether it slides."""
    h = _taken(c, weights, "attention", hidden)
    h, cache = _attention(c, weights, index, h, cache, call, local)
    return _join(c, weights, "attention", hidden, h), cache


def mlp_half(c: TransformerConfig, weights: Weights, hidden: Hidden, call: Call) -> Hidden:
    """Add what the MLP, or those that a router picks, makes of each token."""
    h = _taken(c, weights, "mlp", hidden)
    h = mix(c, weights, h, call.sight.target) if c.experts else mlp(c, weights, h)
    return _join(c, weights, "mlp", hidden, h)


def _taken(c: TransformerConfig, weights: Weights, half: str, x: Hidden) -> Hidden:
    """The input of a half layer."""
    return normalize(c, weights, half + "_norm", x) if c.pre_norm and c.input_norms else x


def _attention(
    c: TransformerConfig, weights: Weights, index, x: Hidden, cache, call: Call, local
) -> tuple[Hidden, Cache | None]:
    """Project, rotate, store, attend, project back."""
    batch, tokens, _ = x.shape
    q, k, v = (linear(weights, name, x) for name in "qkv")
    if call.sight.target.platform == "tpu":
        # A product that ends in heads is laid out by them, and its weights, part of a stack, are
        # turned about and copied for it in every layer of every step.
        q, k, v = jax.lax.optimization_barrier((q, k, v))
    if c.whole_qk_norm:
        q, k = normalize(c, weights, "q_norm", q), normalize(c, weights, "k_norm", k)
    q = q.reshape(batch, tokens, c.heads, c.head_dim)
    k = k.reshape(batch, tokens, c.kv_heads, c.head_dim)
    v = v.reshape(batch, tokens, c.kv_heads, c.head_dim)
    if c.qk_norm and not c.whole_qk_norm:
        q = normalize(c, weights, "q_norm", q)
        k = normalize(c, weights, "k_norm", k)
    if call.tables:
        (cos, sin), *other = call.tables
        for turned in other:
            cos, sin = jnp.where(local, turned[0], cos), jnp.where(local, turned[1], sin)
        if c.rotated:
            turns = jnp.asarray(c.rotated)[index]
            cos, sin = jnp.where(turns, cos, 1.0), jnp.where(turns, sin, 0.0)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    if call.slot is not None:
        cache = write(cache, call.base + index, k, v, call.slot, call.view.fresh)
    if call.sight.way == "cudnn":
        out = attend_fused(c, q, k, v, local)
    elif call.sight.way == "stream":
        assert cache is not None
        out = attend_streaming(c, call.sight, q, cache, call.base + index, local)
    elif call.view.fresh:
        out = attend(c, call.sight, q, k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3), local)
    else:
        assert cache is not None
        out = attend(c, call.sight, q, *read(cache, call.base + index), local)
    return linear(weights, "o", out.reshape(batch, tokens, -1)), cache


def _join(c: TransformerConfig, weights: Weights, half: str, x: Hidden, out: Hidden) -> Hidden:
    """Add the output of a half layer to the residual stream."""
    if c.output_norms:
        out = normalize(c, weights, half + "_output_norm", out)
    if c.residual_scale != 1.0:
        out = (out.astype(jnp.float32) * c.residual_scale).astype(out.dtype)
    return x + out if c.pre_norm else normalize(c, weights, half + "_norm", x + out)
