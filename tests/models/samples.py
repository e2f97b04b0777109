"""Small perturbed models, one per kind of attention, for the tests of behaviour."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.config import TransformerConfig
from models.presets import small
from models.rope import Rope
from models.transformer import Transformer

VOCABULARY = 61

CONFIGS: dict[str, TransformerConfig] = {
    "plain": small(VOCABULARY, hidden=32, layers=3, heads=4, tied=False),
    "learned": small(
        VOCABULARY,
        hidden=32,
        layers=2,
        heads=4,
        kv_heads=4,
        rope=None,
        norm="layer",
        gated=False,
        activation="relu",
        mlp_bias=True,
        position_offset=2,
        max_positions=40,
    ),
    "windowed": small(
        VOCABULARY,
        hidden=32,
        layers=3,
        heads=4,
        norm="rms_plus_one",
        output_norms=True,
        qk_norm=True,
        rope=Rope(8, 1e4, "linear", 2.0),
        rope_local=Rope(8, 1e2),
        window=5,
        sliding=(True, True, False),
        attention_cap=2.0,
        logit_cap=3.0,
    ),
    "experts": small(
        VOCABULARY, hidden=32, layers=2, heads=4, mlp=24, experts=6, experts_per_token=2
    ),
}


def perturbed(config: TransformerConfig, seed: int = 0, spread: float = 0.2) -> Transformer:
    """A fresh model with noise on every parameter, norm weights and biases included."""
    model = Transformer(config, rngs=nnx.Rngs(seed))
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [
        x + spread * jax.random.normal(key, x.shape, x.dtype)
        for x, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


def draw(batch: int, count: int, seed: int = 0) -> jax.Array:
    """Random tokens i32[B, T]."""
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (batch, count))
    return jnp.asarray(tokens, jnp.int32)
