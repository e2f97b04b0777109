"""Policy gradients reach the optimum that they are meant for, and their parts are what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdecode.autoregress import generate
from jaxdecode.logits import Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.policy_gradient import (
    GroupRelative,
    Jeffreys,
    Reinforce,
    Setting,
    clipped,
    leave_one_out,
    standardised,
)
from jaxdecode.train.ppo import PPO, advantages
from jaxdecode.train.sequences import join, logprobs
from tests.jaxdecode.train import bigrams
from tests.jaxdecode.train.bigrams import Bigrams

BATCH, GROUP = 8, 8
BASE = bigrams.random()
WORTH = np.random.default_rng(1).normal(size=64)


def setting(beta: float = 0.5, worth: np.ndarray = WORTH) -> Setting:
    reward = bigrams.Known(jnp.asarray(worth, jnp.float32))
    return Setting(bigrams.generator(BASE), reward, beta, GROUP)


def batches(beta: float, **more: Any):
    prompt, what = bigrams.prompts(BATCH), setting(beta)

    def batch(step: int) -> dict[str, Any]:
        key = jax.random.fold_in(jax.random.key(7), step)
        return {"setting": what, "prompt": prompt, "key": key, **more}

    return batch


def optimum(beta: float) -> np.ndarray:
    weight = BASE.law() * np.exp(WORTH / beta)
    return weight / weight.sum()


def train(learner: Any, beta: float, steps: int, rate: float, folder=None, **more: Any) -> Bigrams:
    module = fit(
        learner.module(bigrams.random()),
        learner.loss,
        batches(beta, **more),
        optax.adam(optax.linear_schedule(rate, 0.0, steps)),
        steps,
        None if folder is None else Checkpoints(folder, 10),
        watch_every=steps,
        rollout=learner.rollout,
        updates=learner.updates,
    )
    return learner.policy(module)


def distance(policy: Bigrams, law: np.ndarray) -> float:
    """Total variation."""
    return 0.5 * float(np.abs(policy.law() - law).sum())


@pytest.mark.parametrize(
    ("learner", "steps", "rate"),
    [(Reinforce(), 1800, 0.05), (PPO(width=9, updates=2), 1800, 0.05)],
    ids=["reinforce", "ppo"],
)
def test_the_optimum_is_reached(learner: Any, steps: int, rate: float) -> None:
    """pi_ref exp(r / beta) / Z over all 64 responses; another beta's is far from it."""
    beta = 0.5
    policy = train(learner, beta, steps, rate)
    assert distance(policy, optimum(beta)) < 1e-3
    assert distance(policy, optimum(0.6)) > 0.05 < distance(BASE, optimum(beta))


def test_a_killed_run_continues_to_the_same_weights(tmp_path) -> None:
    """The responses are drawn from the weights of the step and its key, so nothing is lost."""
    whole = train(Reinforce(), 0.5, 20, 0.05)
    prompt, what = bigrams.prompts(BATCH), setting()

    class Killed(Exception):
        pass

    def deadly(step: int) -> dict[str, Any]:
        if step == 15:
            raise Killed
        return {"setting": what, "prompt": prompt, "key": key(step)}

    def key(step: int):
        return jax.random.fold_in(jax.random.key(7), step)

    learner = Reinforce()
    optimizer = optax.adam(optax.linear_schedule(0.05, 0.0, 20))
    with pytest.raises(Killed):
        fit(
            bigrams.random(),
            learner.loss,
            deadly,
            optimizer,
            20,
            Checkpoints(tmp_path, 10),
            rollout=learner.rollout,
        )
    resumed = train(learner, 0.5, 20, 0.05, tmp_path)
    np.testing.assert_array_equal(np.asarray(whole.table[...]), np.asarray(resumed.table[...]))


def test_a_reward_that_is_not_a_number_stops_the_training() -> None:
    learner, what = Reinforce(), setting(worth=np.full(64, np.nan))
    with pytest.raises(FloatingPointError, match="became nan at step 1; nothing is saved"):
        fit(
            bigrams.random(),
            learner.loss,
            lambda step: batches(0.5)(step) | {"setting": what},
            optax.sgd(0.1),
            1,
            rollout=learner.rollout,
        )


def test_log_probabilities_are_the_samplers_own() -> None:
    """Whole sequences say the same as decoding did, prompts and responses being ragged."""
    drawn = jax.jit(generate, static_argnums=3)
    rows = drawn(bigrams.generator(BASE), jax.random.key(3), bigrams.prompts(4), 2)
    prompt = bigrams.prompts(8)
    found = logprobs(BASE, join(prompt, rows.tokens, rows.length))
    np.testing.assert_allclose(found, rows.logprob, rtol=1e-5)
    cut = logprobs(BASE, join(prompt, rows.tokens, jnp.ones(8, jnp.int32)))
    p = np.exp(np.asarray(BASE.table[...], np.float64)[bigrams.START])
    first = np.log(p / p.sum())[np.asarray(rows.tokens[:, 0])]
    np.testing.assert_allclose(cut, first, rtol=1e-5)


def test_prompt_and_response_are_joined_without_a_gap() -> None:
    prompt = Prompt.of([[5, 6, 7], [4]], width=4)
    found = join(prompt, jnp.array([[1, 2, 0], [3, 3, 3]]), jnp.array([2, 3]))
    np.testing.assert_array_equal(found.tokens, [[5, 6, 7, 1, 2, 0, 0], [4, 3, 3, 3, 0, 0, 0]])
    np.testing.assert_array_equal(found.length, [5, 4])
    said = [[0, 0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(found.said, np.array(said, bool))


def test_baselines_by_hand() -> None:
    returns = jnp.array([1.0, 2.0, 6.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(leave_one_out(returns, 3), [-3, -1.5, 4.5, -1.5, -1.5, 3])
    scaled = np.asarray(standardised(returns, 3))
    np.testing.assert_allclose(scaled[:3], [-0.9258, -0.4629, 1.3887], atol=1e-3)
    sample = np.asarray(standardised(returns, 3, ddof=1))
    np.testing.assert_allclose(sample[:3], [-0.7559, -0.3780, 1.1339], atol=1e-3)
    assert np.abs(np.asarray(standardised(jnp.ones(4), 2))).max() == 0


def test_advantages_by_recursion() -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 5))
    said = np.arange(5) < np.array([[5], [2], [0]])
    found = advantages(jnp.asarray(rewards), jnp.asarray(values), jnp.asarray(said), 0.7)
    for row in range(3):
        later, expected = 0.0, np.zeros(5)
        for t in reversed(range(said[row].sum())):
            behind = values[row, t + 1] if t + 1 < said[row].sum() else 0.0
            later = rewards[row, t] + behind - values[row, t] + 0.7 * later
            expected[t] = later
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)
    # Without discount the advantage is all that follows, less the value.
    whole = advantages(jnp.asarray(rewards), jnp.asarray(values), jnp.asarray(said), 1.0)
    np.testing.assert_allclose(whole[0, 0], rewards[0].sum() - values[0, 0], rtol=1e-5)


def test_nothing_is_gained_beyond_the_clip() -> None:
    ratio = jnp.log(jnp.array([0.5, 0.9, 1.1, 2.0]))
    np.testing.assert_allclose(clipped(ratio, jnp.array(1.0), 0.2), [0.5, 0.9, 1.1, 1.2], rtol=1e-6)
    np.testing.assert_allclose(
        clipped(ratio, jnp.array(-1.0), 0.2), [-0.8, -0.9, -1.1, -2.0], rtol=1e-6
    )


def test_group_relative_training_raises_the_reward() -> None:
    policy = train(GroupRelative(), 0.1, 60, 0.1)
    assert policy.law() @ WORTH > BASE.law() @ WORTH + 0.5


def test_jeffreys_is_a_mixture_of_two_losses() -> None:
    prompt, what = bigrams.prompts(2), setting(beta=0.25)
    best = {"best_tokens": jnp.array([[1, 2], [3, 4]]), "best_length": jnp.array([2, 2])}
    key = jax.random.key(0)
    learner = Jeffreys(share=0.3)
    arguments, _ = jax.jit(learner.rollout)(BASE, what, prompt, key, **best)
    loss, metrics = learner.loss(BASE, **arguments)
    plain, _ = jax.jit(Reinforce().rollout)(BASE, what, prompt, key)
    backward, _ = Reinforce().loss(BASE, **plain)
    law = np.log(BASE.law())
    forward = -(law[1 * 8 + 2] + law[3 * 8 + 4]) / 2
    assert float(metrics["forward"]) == pytest.approx(forward, rel=1e-5)
    assert float(loss) == pytest.approx(0.7 * float(backward) / 0.25 + 0.3 * forward, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": 1}, "group=1: a response's baseline"),
        ({"transform": Temperature(0.7)}, "transform=Temperature and sampler=Categorical draw"),
        ({"sampler": Greedy()}, "transform=Identity and sampler=Greedy draw from another law"),
    ],
)
def test_bad_settings_are_refused(change, message) -> None:
    group = change.pop("group", GROUP)
    with pytest.raises(ValueError, match=message):
        Setting(replace(bigrams.generator(BASE), **change), setting().reward, 0.5, group)
