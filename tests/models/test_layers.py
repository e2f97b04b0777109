"""Norms and activations against worked numbers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from models.config import TransformerConfig
from models.layers import activate, mlp, normalize, soft_cap


def config(**switches) -> TransformerConfig:
    return TransformerConfig(7, 4, 3, 1, 1, 1, 4, **switches)


def test_root_mean_square_norm():
    x = jnp.asarray([1.0, 2.0, 2.0, 4.0])
    out = normalize(config(), {"n": jnp.ones(4)}, "n", x)
    np.testing.assert_allclose(out, [0.4, 0.8, 0.8, 1.6], atol=1e-6)
    shifted = normalize(config(norm="rms_plus_one"), {"n": jnp.zeros(4)}, "n", x)
    np.testing.assert_allclose(shifted, out, atol=1e-6)


def test_layer_norm():
    x = jnp.asarray([1.0, 2.0, 3.0, 6.0])
    weights = {"n": jnp.full(4, 2.0), "n_bias": jnp.arange(4.0)}
    out = normalize(config(norm="layer", norm_eps=1e-9), weights, "n", x)
    unit = (np.asarray(x) - 3.0) / np.sqrt(3.5)
    np.testing.assert_allclose(out, 2 * unit + np.arange(4), rtol=1e-6)


def test_statistics_are_float32_in_low_precision():
    x = jnp.full(4, 300.0, jnp.float16)  # whose square overflows
    out = normalize(config(), {"n": jnp.ones(4, jnp.float16)}, "n", x)
    assert out.dtype == jnp.float16
    np.testing.assert_allclose(out, 1.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "at_one"),
    [("silu", 0.7310586), ("gelu", 0.8413447), ("gelu_tanh", 0.8411920), ("relu", 1.0)],
)
def test_activations_at_one(kind, at_one: float):
    assert float(activate(kind, jnp.asarray(1.0))) == pytest.approx(at_one, abs=1e-6)


def test_gated_and_plain_mlp():
    draws = np.random.default_rng(0)
    shapes = {"gate": (4, 3), "up": (4, 3), "down": (3, 4)}
    w = {name: jnp.asarray(draws.normal(size=shape)) for name, shape in shapes.items()}
    bias = {"up_bias": jnp.asarray([1.0, -1.0, 0.5])}
    x = jnp.asarray(draws.normal(size=(1, 2, 4)))
    gate = x @ w["gate"]
    gated = (gate / (1 + jnp.exp(-gate)) * (x @ w["up"])) @ w["down"]
    np.testing.assert_allclose(mlp(config(), w, x), gated, rtol=1e-4, atol=1e-5)
    plain = jnp.maximum(x @ w["up"] + bias["up_bias"], 0) @ w["down"]
    out = mlp(config(gated=False, activation="relu"), w | bias, x)
    np.testing.assert_allclose(out, plain, rtol=1e-4, atol=1e-5)


def test_soft_cap():
    x = jnp.asarray([-1000.0, 0.1, 1000.0])
    np.testing.assert_allclose(soft_cap(x, 2.0), [-2.0, 2 * np.tanh(0.05), 2.0], rtol=1e-6)
    np.testing.assert_array_equal(soft_cap(x, 0.0), x)
