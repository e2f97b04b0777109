"""Rotary tables against hand-computed and published values."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from models.rope import Rope, frequencies, rotate, rotation


def turn(rope: Rope, position: int, x: list[float]) -> np.ndarray:
    at = jnp.full((1, 1), position)
    cos, sin = rotation(rope, at, at + 1)
    return np.asarray(rotate(jnp.asarray(x)[None, None, None], cos, sin))[0, 0, 0]


def ratio(scaled: Rope) -> np.ndarray:
    plain = Rope(scaled.width, scaled.theta)
    return frequencies(scaled) / frequencies(plain)


def test_a_head_of_four():
    turned = turn(Rope(4), 3, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(turned, [-1.413353, 1.879118, -2.828857, 4.058191], atol=2e-6)


def test_dimensions_beyond_the_width_pass_through():
    turned = turn(Rope(4), 3, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    np.testing.assert_allclose(turned[:4], turn(Rope(4), 3, [1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(turned[4:], [5.0, 6.0])


def test_products_depend_on_distance_alone():
    rope, draws = Rope(16), np.random.default_rng(0)
    q, k = draws.normal(size=16).tolist(), draws.normal(size=16).tolist()
    near = turn(rope, 5, q) @ turn(rope, 2, k)
    far = turn(rope, 105, q) @ turn(rope, 102, k)
    assert near == pytest.approx(far, abs=1e-4)


def test_linear():
    np.testing.assert_allclose(ratio(Rope(8, kind="linear", factor=4.0)), 0.25)


def test_llama_3_1():
    scaled = Rope(128, 5e5, "llama3", factor=8.0, original=8192)
    kept = ratio(scaled)
    np.testing.assert_allclose(kept[:29], 1.0)
    ramp = [0.828168, 0.643743, 0.493507, 0.371122, 0.271425, 0.190211]
    np.testing.assert_allclose(kept[29:35], ramp, atol=1e-6)
    np.testing.assert_allclose(kept[35:], 1 / 8)


def test_llama_3_2():
    scaled = Rope(64, 5e5, "llama3", factor=32.0, original=8192)
    kept = ratio(scaled)
    np.testing.assert_allclose(kept[:15], 1.0)
    np.testing.assert_allclose(kept[15:18], [0.605573, 0.303743, 0.103448], atol=1e-6)
    np.testing.assert_allclose(kept[18:], 1 / 32)


def test_yarn():
    kept = ratio(Rope(128, 1e6, "yarn", factor=4.0, original=32768))
    np.testing.assert_allclose(kept[:24], 1.0)
    np.testing.assert_allclose(kept[[24, 30, 39]], [0.955882, 0.691176, 0.294118], atol=1e-6)
    np.testing.assert_allclose(kept[40:], 1 / 4)


def test_amplitude_scales_both_tables():
    at = jnp.full((1, 1), 7)
    amplitude = 0.1 * math.log(4.0) + 1
    plain = rotation(Rope(8), at, at + 1)
    scaled = rotation(Rope(8, amplitude=amplitude), at, at + 1)
    assert amplitude == pytest.approx(1.138629, abs=1e-6)
    for a, b in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(np.asarray(a) * amplitude, b, rtol=1e-6)


def test_dynamic_grows_the_base_with_each_rows_length():
    rope = Rope(8, 1e4, "dynamic", factor=2.0, original=32)
    position = jnp.asarray([[0, 31], [0, 63]])
    cos, sin = rotation(rope, position, position[:, 1:] + 1)
    angle = np.arctan2(np.asarray(sin), np.asarray(cos))
    within = frequencies(Rope(8, 1e4)) * 31
    beyond = frequencies(Rope(8, 43267.49)) * 63

    def wrapped(x: np.ndarray) -> np.ndarray:
        return np.arctan2(np.sin(x), np.cos(x))

    np.testing.assert_allclose(angle[0, 1], wrapped(within), atol=1e-4)
    np.testing.assert_allclose(angle[1, 1], wrapped(beyond), atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_every_token_is_rotated_for_its_own_text(kind):
    sets: dict[str, Any] = {"short": (1.0,) * 4, "long": (2.0,) * 4} if kind == "longrope" else {}
    rope = Rope(8, 1e4, kind, factor=2.0, original=4, **sets)
    position = jnp.arange(8)[None]
    cos, _ = rotation(rope, position, position + 1)
    plain, _ = rotation(Rope(8), position, position)
    np.testing.assert_allclose(cos[:, :4], plain[:, :4], atol=1e-6)
    assert np.abs(np.asarray(cos - plain)[:, 4:]).max(axis=(0, 2)).min() > 1e-2
    for at in range(8):
        alone, _ = rotation(rope, position[:, at:], position[:, at : at + 1] + 1)
        np.testing.assert_allclose(cos[:, at], alone[:, 0], atol=1e-6)


def test_longrope_switches_sets_past_the_trained_length():
    short, long = (1.0, 1.5, 2.0, 3.0), (2.0, 4.0, 8.0, 16.0)
    rope = Rope(8, 1e4, "longrope", 4.0, 4, short=short, long=long)
    position = jnp.asarray([[0, 3], [0, 4]])
    cos, _ = rotation(rope, position, position[:, 1:] + 1)
    base = frequencies(Rope(8))
    np.testing.assert_allclose(cos[0, 1], np.cos(3 * base / np.asarray(short)), atol=1e-6)
    np.testing.assert_allclose(cos[1, 1], np.cos(4 * base / np.asarray(long)), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"width": 3}, "width=3"),
        ({"width": 4, "theta": 0.0}, "theta=0.0"),
        ({"width": 4, "theta": float("nan")}, "theta=nan"),
        ({"width": 4, "kind": "yarn", "factor": 2.0}, "original=0"),
        ({"width": 4, "kind": "longrope", "original": 8, "short": (1.0,)}, "1 and 0 factors"),
    ],
)
def test_impossible_tables_are_refused(arguments: dict, named: str):
    with pytest.raises(ValueError, match=named):
        Rope(**arguments)
