"""The loss of hidden tokens against sums over rows, and the weights that make a bound of it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.finite_law import FiniteLaw
from jaxdecode.testing.law_model import LawModel
from jaxdecode.train.masked import LEAST, cart, counted, levels, masked_tokens

MASK = 3
LAW = FiniteLaw(
    np.array([[0, 0, 1], [0, 1, 0], [1, 0, 2], [1, 1, 1], [2, 0, 0]]),
    np.array([0.3, 0.1, 0.2, 0.25, 0.15]),
)
MODEL = LawModel.of(LAW, 4, MASK, first=1)
# One prompt token, three of the law, and padding.
TOKENS = np.array([[2, 0, 1, 0, 0], [1, 1, 0, 2, 0], [0, 2, 0, 0, 1]], np.int32)
ANSWER = np.array([[0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 1, 1, 1, 0]], bool)
LENGTH = np.array([4, 4, 4], np.int32)


def conditional(row: int, place: Any, hidden: np.ndarray) -> float:
    """p of the token at a place given what is not hidden, from the law's table."""
    seen = [i for i in range(3) if not hidden[row, i + 1]]
    text = TOKENS[row, 1:4]
    agree = (LAW.support[:, seen] == text[seen]).all(axis=1)
    right = agree & (LAW.support[:, place - 1] == text[place - 1])
    return LAW.probability[right].sum() / LAW.probability[agree].sum()


def naive(hidden: np.ndarray, probability: np.ndarray, per: str) -> float:
    rows, total = [], 0.0
    for row in range(3):
        loss = 0.0
        for place in np.flatnonzero(hidden[row]):
            loss -= np.log(conditional(row, place, hidden)) / probability[row]
        rows.append(loss / ANSWER[row].sum())
        total += loss
    return float(np.mean(rows)) if per == "row" else total / ANSWER.sum()


@pytest.mark.parametrize("form", ["levels", "counts"])
@pytest.mark.parametrize("per", ["row", "token"])
def test_the_weighted_sum_over_what_is_hidden(form: Any, per: Any) -> None:
    rng = np.random.default_rng(3)
    level = np.array([0.5, 0.9, 0.2], np.float32)
    noise = rng.random(TOKENS.shape).astype(np.float32)
    if form == "levels":
        probability = (1 - LEAST) * level + LEAST
        hidden = ANSWER & (noise < probability[:, None])
    else:
        hidden = np.zeros_like(ANSWER)
        probability = np.zeros(3)
        for row in range(3):
            places = np.flatnonzero(ANSWER[row])
            count = int(level[row] * len(places)) + 1
            hidden[row, places[np.argsort(noise[row, places])[:count]]] = True
            probability[row] = count / len(places)
    assert hidden.any() and (hidden != ANSWER).any()
    run = jax.jit(functools.partial(masked_tokens, mask_id=MASK, form=form, per=per))
    loss, metrics = run(MODEL, TOKENS, ANSWER, LENGTH, level, noise)
    assert loss == pytest.approx(naive(hidden, probability, per), rel=1e-4)
    if per == "token":
        assert metrics["weight"] == ANSWER.sum()


@pytest.mark.parametrize("form", ["levels", "counts"])
def test_the_mean_weight_of_a_token_is_one(form: str) -> None:
    """So that a model of constant cross-entropy c has the loss c, whatever the levels' law."""
    rng = np.random.default_rng(0)
    rows = 20_000
    answer = np.tile(ANSWER[:1], (rows, 1))
    level = rng.random(rows).astype(np.float32)
    noise = rng.random(answer.shape).astype(np.float32)
    if form == "counts":
        hidden, share = counted(*map(jnp.asarray, (answer, level, noise)))
        weight = np.asarray(hidden / share)
    else:
        p = ((1 - LEAST) * level + LEAST)[:, None]
        weight = (answer & (noise < p)) / p
    mean, error = weight.mean(axis=0), weight.std(axis=0) / np.sqrt(rows)
    assert (np.abs(mean - 1) < 4 * error)[ANSWER[0]].all()
    assert (weight[:, ~ANSWER[0]] == 0).all()
    # Counts hide at least one token of every row; so many rows of levels have none.
    empty = (weight.sum(axis=1) == 0).mean()
    assert empty == 0 if form == "counts" else 0.2 < empty < 0.3


def test_a_gradient_is_finite_and_of_the_hidden_alone() -> None:
    """The law's impossible answers have a floor, and the mask's -inf gives no NaN."""
    zero, one = jnp.zeros(3), jnp.ones_like(jnp.asarray(TOKENS), jnp.float32)

    def loss(p, level):
        model = LawModel(MODEL.support, p, 4, MASK, 1)
        arrays = (jnp.asarray(TOKENS), jnp.asarray(ANSWER), jnp.asarray(LENGTH), level, 0.5 * one)
        return masked_tokens(model, *arrays, mask_id=MASK)[0]

    gradient = jax.jit(jax.grad(loss))
    assert (np.asarray(gradient(MODEL.probability, zero)) == 0).all()
    some = np.asarray(gradient(MODEL.probability, zero + 0.9))
    assert np.isfinite(some).all() and (some != 0).any()


@pytest.mark.parametrize("spread", ["independent", "shifted", "antithetic"])
def test_levels(spread) -> None:
    found = levels(np.random.default_rng(0), 64, spread)
    assert found.dtype == np.float32 and ((found >= 0) & (found < 1)).all()
    parts = np.bincount((found * 64).astype(int), minlength=64)
    assert (parts == 1).all() == (spread != "independent") or spread == "shifted"
    if spread == "shifted":  # a comb: all gaps alike
        np.testing.assert_allclose(np.diff(np.sort(found)), 1 / 64, atol=1e-6)
    with pytest.raises(ValueError, match="spread="):
        levels(np.random.default_rng(0), 4, "even")  # type: ignore[arg-type]


def test_the_weights_of_dream() -> None:
    hidden = np.array([[0, 1, 1, 0, 1, 0]], bool)
    valid = np.array([[1, 1, 1, 1, 1, 0]], bool)
    found = cart(jnp.asarray(hidden), jnp.asarray(valid))
    for i in range(6):
        near = [0.5 * 0.3 * 0.7 ** max(abs(i - j) - 1, 0) for j in (0, 3)]
        assert found[0, i] == pytest.approx(sum(near))
