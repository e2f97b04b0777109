"""Losses against their definitions, one token and one pair at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode import struct
from jaxdecode.train.losses import bradley_terry, next_token
from jaxdecode.types import Array

VOCAB = 5


@struct.dataclass
class Bigram:
    """Logits and reward depend on the newest token; an invalid token gives nonsense."""

    logits: Array
    rewards: Array

    def forward(self, tokens, valid=None):
        outputs = self.logits[tokens]
        if valid is not None:
            outputs = jnp.where(valid[..., None], outputs, 1e3)
        return outputs, outputs

    def reward(self, outputs):
        return outputs @ self.rewards


def bigram(seed: int = 5) -> Bigram:
    rng = np.random.default_rng(seed)
    return Bigram(
        jnp.asarray(rng.normal(size=(VOCAB, VOCAB)), jnp.float32),
        jnp.asarray(rng.normal(size=VOCAB), jnp.float32),
    )


TOKENS = np.array([[1, 2, 3, 0, 4], [2, 2, 0, 0, 0], [4, 0, 1, 3, 3]])
LENGTH = np.array([5, 2, 4])
MASK = np.array([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0], [1, 0, 0, 1, 0]], bool)


def test_cross_entropy_is_the_mean_over_the_tokens_named() -> None:
    """A mask on the first token names nothing that is predicted."""
    logits = np.asarray(bigram().logits, np.float64)
    losses, right = [], []
    for row, place in np.argwhere(MASK):
        if place > 0:
            scores = logits[TOKENS[row, place - 1]]
            losses.append(np.log(np.exp(scores).sum()) - scores[TOKENS[row, place]])
            right.append(scores.argmax() == TOKENS[row, place])
    loss, metrics = next_token(bigram(), *map(jnp.asarray, (TOKENS, MASK, LENGTH)))
    assert len(losses) == 5 and any(right) and not all(right)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(right), rtol=1e-5)


def test_cross_entropy_of_known_models() -> None:
    """log V for the uniform one, next to nothing for a sure and right one."""
    arguments = (jnp.array([[0, 1, 2]]), jnp.ones((1, 3), bool), jnp.array([3]))
    uniform = Bigram(jnp.zeros((VOCAB, VOCAB)), jnp.zeros(VOCAB))
    assert next_token(uniform, *arguments)[0] == pytest.approx(np.log(VOCAB), rel=1e-6)
    sure = Bigram(100.0 * jnp.roll(jnp.eye(VOCAB), 1, axis=1), jnp.zeros(VOCAB))
    loss, metrics = next_token(sure, *arguments)
    assert (float(loss), float(metrics["accuracy"])) == (0.0, 1.0)


def test_nothing_named_is_nothing_lost() -> None:
    loss, metrics = next_token(
        bigram(), jnp.asarray(TOKENS), jnp.zeros_like(MASK), jnp.asarray(LENGTH)
    )
    assert (float(loss), float(metrics["accuracy"])) == (0.0, 0.0)


def test_tokens_that_are_not_named_get_no_gradient() -> None:
    """Nor does what lies past the length: only predictors of named tokens learn."""

    def loss(model: Bigram):
        return next_token(model, *map(jnp.asarray, (TOKENS, MASK, LENGTH)))[0]

    gradient = np.asarray(jax.grad(loss)(bigram()).logits)
    predictors = {int(TOKENS[r, p - 1]) for r, p in np.argwhere(MASK) if p > 0}
    assert (
        {int(token) for token in np.flatnonzero(gradient.any(1))} == predictors != set(range(VOCAB))
    )
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-6)


def test_bradley_terry_reads_the_last_token_of_each() -> None:
    chosen, chosen_length = np.array([[1, 2, 0], [3, 0, 0], [2, 2, 4]]), np.array([2, 1, 3])
    rejected, rejected_length = np.array([[4, 4, 4], [1, 3, 0], [2, 4, 0]]), np.array([3, 2, 2])
    model = bigram(1)
    worth = np.asarray(model.logits, np.float64) @ np.asarray(model.rewards, np.float64)

    def last(tokens, length):
        return worth[tokens[np.arange(3), length - 1]]

    margin = last(chosen, chosen_length) - last(rejected, rejected_length)
    assert margin[1] == margin[2] == 0  # a tie is not ranked as labelled
    loss, metrics = bradley_terry(
        model, *map(jnp.asarray, (chosen, chosen_length, rejected, rejected_length))
    )
    np.testing.assert_allclose(loss, np.mean(np.log1p(np.exp(-margin))), rtol=1e-5)
    np.testing.assert_allclose(metrics["margin"], margin.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["accuracy"], (margin > 1e-6).mean(), rtol=1e-6)


def test_bradley_terry_of_known_margins() -> None:
    """log 2 when indifferent, the margin itself when far off, nothing when far ahead."""
    model = Bigram(jnp.eye(VOCAB), jnp.array([0.0, 1.0, 500.0, 0.0, 0.0]))
    one = jnp.array([1])

    def loss(chosen: int, rejected: int) -> float:
        return float(
            bradley_terry(model, jnp.array([[chosen]]), one, jnp.array([[rejected]]), one)[0]
        )

    assert loss(0, 3) == pytest.approx(np.log(2), rel=1e-6)
    assert loss(1, 0) == pytest.approx(np.log1p(np.exp(-1)), rel=1e-6)
    assert loss(0, 2) == pytest.approx(500, rel=1e-6) and loss(2, 0) == 0
