"""Narrow numbers to compute with, wide ones to learn in."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.alignment.infalign import Plan, optimise
from jaxdecode.train.checkpoints import Checkpoints
from jaxdecode.train.fit import fit
from jaxdecode.train.losses import next_token
from jaxdecode.train.policy_gradient import Reinforce
from jaxdecode.train.precision import cast
from tests.jaxdecode.train import bigrams, small
from tests.jaxdecode.train.test_policy_gradient import WORTH, batches


def test_a_transformer_learns_as_in_single_precision() -> None:
    batch, curves = small.padded([12, 9, 5, 7]), {}
    for compute in (None, "bfloat16"):
        losses: list[float] = []

        def watch(_, means, losses=losses) -> None:
            losses.append(means["loss"])

        adam = optax.adam(1e-2)
        model = fit(
            small.model(), next_token, lambda _: batch, adam, 12, None, watch, 1, compute=compute
        )
        assert model.dtype == jnp.float32
        curves[compute] = np.array(losses)
    narrow, wide = curves["bfloat16"], curves[None]
    assert wide[-1] < wide[0] - 0.2
    np.testing.assert_allclose(narrow, wide, rtol=0.02)
    assert np.abs(narrow - wide).max() > 1e-5, "the narrow run is to compute in bfloat16"


def test_small_steps_add_up_in_the_wide_weights() -> None:
    """A fortieth of a bfloat16's last digit each: narrow weights would stay where they are."""

    def slope(model):
        assert model.table[...].dtype == jnp.bfloat16
        return jnp.sum(model.table[...].astype(jnp.float32)), {}

    start = bigrams.Bigrams(np.ones((9, 8)))
    model = fit(start, slope, lambda _: {}, optax.sgd(1e-4), 60, compute=jnp.bfloat16)
    np.testing.assert_allclose(model.table[...], 1 - 60e-4, rtol=1e-5)
    assert np.all(np.asarray(cast(start, jnp.bfloat16).table[...] - jnp.bfloat16(1e-4)) == 1)


def test_the_optimisers_state_is_wide_and_a_run_resumes(tmp_path) -> None:
    learner = Reinforce()

    def train(steps: int, folder=None):
        return fit(
            bigrams.random(),
            learner.loss,
            batches(0.5),
            optax.adam(0.05),
            steps,
            None if folder is None else Checkpoints(folder, 2),
            rollout=learner.rollout,
            compute="bfloat16",
        )

    train(2, tmp_path)
    resumed, whole = train(4, tmp_path), train(4)
    np.testing.assert_array_equal(resumed.table[...], whole.table[...])
    stored = (tmp_path / "4" / "default" / "_METADATA").read_text()
    assert "mu" in stored and "bfloat16" not in stored


def test_a_policy_and_its_reference_are_rounded_alike() -> None:
    """So that their KL is nothing at first."""
    told: list[Mapping[str, float]] = []
    base, reward = bigrams.random(), bigrams.Known(jnp.asarray(WORTH, jnp.float32))
    plan = Plan(prompts=2, group=4, steps=2, optimizer=optax.adam(0.1), compute="bfloat16")
    policy = optimise(
        bigrams.generator(base),
        reward,
        [[bigrams.START]] * 2,
        0.5,
        plan,
        watch=lambda _, means: told.append(means),
    )
    assert told[0]["kl"] == 0 and told[1]["kl"] != 0
    assert policy.table.dtype == base.table.dtype == jnp.float32


def test_narrow_weights_are_refused() -> None:
    def train(model, compute):
        return fit(model, next_token, lambda _: {}, optax.sgd(1.0), 1, compute=compute)

    with pytest.raises(ValueError, match=r"table.*is bfloat16, .* load float32 weights, or drop"):
        train(cast(bigrams.random(), jnp.bfloat16), "bfloat16")
    with pytest.raises(ValueError, match="compute=int8: a floating type such as 'bfloat16'"):
        train(bigrams.random(), "int8")
