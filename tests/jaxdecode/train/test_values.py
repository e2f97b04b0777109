"""Losses for values: their minimisers on a table are the values that enumeration gives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode import struct
from jaxdecode.train.sequences import Sequences
from jaxdecode.train.values import cd_q, fudge, values
from jaxdecode.types import Array

# After a prompt of one token: all texts of two tokens out of two, their chance and reward.
TEXTS = jnp.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]])
CHANCE, REWARD = np.array([0.3, 0.3, 0.12, 0.28]), np.array([0.6, 0.6, 1.0, 0.2])
LAW = np.array([[0.6, 0.4], [0.5, 0.5], [0.3, 0.7]])
WANTED = np.array([[0.6, 0.44], [0.6, 0.6], [1.0, 0.2]])


@struct.dataclass
class Table:
    """V of both next tokens after the prompt, after 0 and after 1; 9 past the end."""

    v: Array

    def forward(self, tokens: Array, valid: Array | None = None) -> tuple[Array, Array]:
        after = jnp.stack([jnp.zeros_like(tokens[:, 1]), 1 + tokens[:, 1]], axis=1)
        ends = jnp.full((len(tokens), 1, 2), 9.0)
        return jnp.concatenate([self.v[after], ends], axis=1), jnp.zeros((*tokens.shape, 1))


def batch(counts: np.ndarray) -> tuple[Sequences, Array, Array]:
    """Every text so many times, with its reward and the law after each token."""
    index = np.repeat(np.arange(4), counts)
    tokens = TEXTS[index]
    said = jnp.broadcast_to(jnp.array([False, True, True]), tokens.shape)
    texts = Sequences(tokens, jnp.full((len(index),), 3), said)
    after = np.stack([np.zeros(len(index), int), 1 + np.asarray(tokens[:, 1])], axis=1)
    law = np.concatenate([LAW[after], np.full((len(index), 1, 2), 0.5)], axis=1)
    return texts, jnp.asarray(REWARD[index]), jnp.asarray(law)


@pytest.mark.parametrize("kind", ["FUDGE", "CD-Q", "CD-Q, other texts"])
def test_minimisers(kind: str) -> None:
    """CD-Q's data may come from anywhere; FUDGE's must be the reference's."""
    counts = np.array([10, 10, 10, 10]) if "other" in kind else np.rint(50 * CHANCE).astype(int)
    texts, reward, law = batch(counts)

    def loss(v: Array) -> Array:
        if kind == "FUDGE":
            return fudge(Table(v), texts, reward)[0]
        return cd_q(Table(v), texts, reward, law)[0]

    gradient = jax.jit(jax.grad(loss))
    v = jnp.zeros((3, 2))
    for _ in range(400):
        v -= 2.0 * gradient(v)
    np.testing.assert_allclose(v, WANTED, atol=1e-3)
    assert float(np.asarray(LAW[0]) @ v[0]) == pytest.approx(0.536, abs=1e-3)


def test_the_target_has_no_gradient() -> None:
    """Of a text whose rewards are met, V before its end moves towards the next ones alone."""
    texts, reward, law = batch(np.array([1, 0, 0, 0]))
    start = jnp.array([[0.0, 0.0], [0.6, 0.0], [0.0, 0.0]])
    gradient = jax.grad(lambda v: cd_q(Table(v), texts, reward, law)[0])(start)
    assert gradient[0, 0] == pytest.approx((0.0 - 0.3) / 2)
    gradient = gradient.at[0, 0].set(0.0)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)


def test_values_are_those_of_the_tokens_said() -> None:
    texts, _, _ = batch(np.array([0, 0, 0, 1]))
    own, _ = values(Table(jnp.asarray(WANTED)), texts)
    np.testing.assert_allclose(own, [[0.0, 0.44, 0.2]], atol=1e-6)
