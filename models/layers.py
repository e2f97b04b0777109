"""The pieces of a layer that know nothing of attention: norms, activations, linear maps."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxdecode.types import Array, Float
from models.config import Activation, TransformerConfig

Weights = Mapping[str, Array]


def normalize(
    config: TransformerConfig, weights: Weights, name: str, x: Float[Array, "... D"]
) -> Float[Array, "... D"]:
    """Root-mean-square or layer norm over the last axis, statistics in float32.

    The plain form rounds to the activations' dtype before multiplying by the weight, the others
    after it, as the families that use them were trained.
    """
    wide, weight = x.astype(jnp.float32), weights[name]
    if config.norm == "layer":
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    unit = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + config.norm_eps)
    if config.norm == "rms_wide":
        return (unit * weight.astype(jnp.float32)).astype(x.dtype)
    if config.norm == "rms_plus_one":
        return (unit * (1.0 + weight.astype(jnp.float32))).astype(x.dtype)
    if config.norm == "layer":
        bias = weights[name + "_bias"].astype(jnp.float32)
        return (unit * weight.astype(jnp.float32) + bias).astype(x.dtype)
    return unit.astype(x.dtype) * weight


def linear(weights: Weights, name: str, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
    """x @ W, plus the bias where there is one."""
    y = x @ weights[name]
    bias = weights.get(name + "_bias")
    return y if bias is None else y + bias


def activate(kind: Activation, x: Array) -> Array:
    """An activation by name."""
    match kind:
        case "silu":
            return jax.nn.silu(x)
        case "gelu":
            return jax.nn.gelu(x, approximate=False)
        case "gelu_tanh":
            return jax.nn.gelu(x, approximate=True)
        case "relu":
            return jax.nn.relu(x)
    raise ValueError(f"activation={kind!r}: use silu, gelu, gelu_tanh or relu")


def mlp(
    config: TransformerConfig, weights: Weights, x: Float[Array, "B T D"]
) -> Float[Array, "B T D"]:
    """down(act(gate x) * up x), or down(act(up x)) without a gate."""
    up = linear(weights, "up", x)
    if config.gated:
        inner = activate(config.activation, linear(weights, "gate", x)) * up
    else:
        inner = activate(config.activation, up)
    return linear(weights, "down", inner)


def soft_cap(x: Array, cap: float) -> Array:
    """cap * tanh(x / cap), in float32."""
    return x if not cap else cap * jnp.tanh(x.astype(jnp.float32) / cap)
