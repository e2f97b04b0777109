"""A batch in parts is the batch, for ragged texts and for what a policy says itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.fit import fit
from jaxdecode.train.losses import next_token
from jaxdecode.train.policy_gradient import GroupRelative
from jaxdecode.train.sequences import Sequences
from jaxdecode.train.values import fudge
from tests.jaxdecode.train import bigrams
from tests.jaxdecode.train.test_policy_gradient import batches

# The rows of a part, every fourth, have from 2 to 22 tokens in all.
LENGTHS = [2, 5, 11, 12, 1, 9, 12, 10]
BASE = bigrams.random()


def ragged() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, bigrams.WORDS, (len(LENGTHS), 12))
    mask = np.arange(12) < np.array(LENGTHS)[:, None]
    return {"tokens": tokens, "loss_mask": mask, "length": np.array(LENGTHS)}


def step(loss, batch: dict[str, Any], parts: int, **options: Any):
    """Table and metrics after one step of plain descent, so that the gradient shows as it is."""
    seen: dict[str, float] = {}
    trained = fit(
        BASE,
        loss,
        lambda _: batch,
        optax.sgd(1.0),
        1,
        watch=lambda _, means: seen.update(means),
        accumulate=Accumulate(parts),
        **options,
    )
    return np.asarray(trained.table[...]), {k: v for k, v in seen.items() if k[:4] != "seco"}


@pytest.fixture(scope="module")
def at_once():
    return step(next_token, ragged(), 1)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_ragged_texts_weigh_by_their_tokens(at_once, parts: int) -> None:
    """One part of eight has nothing to predict at all."""
    table, metrics = step(next_token, ragged(), parts)
    np.testing.assert_allclose(table, at_once[0], rtol=1e-5, atol=1e-6)
    assert metrics == pytest.approx(at_once[1], rel=1e-5)
    assert metrics["weight"] == sum(LENGTHS) - len(LENGTHS)


def test_the_mean_of_means_is_another_gradient(at_once) -> None:
    """What a loss that hides its weight would get."""

    def silent(model, **batch):
        loss, metrics = next_token(model, **batch)
        return loss, {"accuracy": metrics["accuracy"]}

    table, _ = step(silent, ragged(), 4)
    assert np.abs(table - at_once[0]).max() > 0.01


def test_values_weigh_by_what_is_said() -> None:
    batch = ragged()
    said = batch["loss_mask"] & (np.arange(12) > 0)
    sequences = Sequences(*map(jnp.asarray, (batch["tokens"], batch["length"], said)))
    given = {"sequences": sequences, "reward": np.arange(8, dtype=np.float32)}
    whole, parts = step(fudge, given, 1), step(fudge, given, 4)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5, atol=1e-6)
    assert parts[1]["loss"] == pytest.approx(whole[1]["loss"], rel=1e-5)


def test_what_a_policy_says_is_cut_after_it_is_drawn() -> None:
    """Rows of sequences and advantages; the number beta goes to every part."""
    learner, batch = GroupRelative(), batches(0.5)(0)
    found = [step(learner.loss, batch, parts, rollout=learner.rollout) for parts in (1, 4)]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5, atol=1e-6)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5, abs=1e-6)
    assert np.abs(found[0][0] - BASE.table[...]).max() > 1e-3


def test_arguments_without_rows_are_whole_where_they_are_named() -> None:
    def loss(model, tokens, table, other):
        value = jnp.mean((model.table[...][tokens[:, 0]] - table[tokens[:, 1]]) ** 2)
        return value + other.table[...].mean(), {}

    batch = {"tokens": ragged()["tokens"], "table": jnp.ones((9, 8)), "other": bigrams.random(2)}
    with pytest.raises(ValueError, match="parts=2 do not divide the 9 rows of table; change"):
        step(loss, batch, 2)

    def gradient(model, given):
        return loss(model, **given)

    whole, _ = jax.grad(gradient, has_aux=True)(BASE, batch)
    found, _ = Accumulate(2, whole=("table",)).gradient(gradient, BASE, batch)
    np.testing.assert_allclose(found.table[...], whole.table[...], rtol=1e-5, atol=1e-7)


def test_no_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="parts=0: a batch has at least one part"):
        Accumulate(0)
