"""Particles follow the law of their filter, and beams keep what they should."""

from __future__ import annotations

from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.particles import Particles, Weights, log_weights
from algorithms.search.step_beams import StepBeams
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.process_reward import Aggregation, StepFunction, aggregate, bounded
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs

FIRST, SECOND = 0.3, (0.2, 0.6)  # P(x1 = 1), P(x2 = 1 | x1)
REWARD = np.array([0.2, 0.8])
SECOND_REWARD = np.array([[0.3, 0.9], [0.5, 0.6]])
ROWS, PARTICLES = 1500, 4
RANK: dict[str, Any] = {"weights": "rank"}  # what is no rule
SUM: dict[str, Any] = {"aggregation": "sum"}


def logit(p):
    return np.log(p) - np.log1p(-p)


def two_coins() -> EnumerableLM:
    """The second coin's law hangs on the first: its token moves the features."""
    keys = np.zeros((4, 2, 2), np.float32)
    keys[1, 0], keys[1, 1] = (1.0, 0.0), (0.0, 1.0)
    bias = logit(FIRST)
    pull = [(logit(p) - bias) / np.tanh(1.0) for p in SECOND]
    head = np.array([[0.0, pull[0]], [0.0, pull[1]]], np.float32)
    zero = np.zeros_like(keys)
    parts = (keys, zero, head, np.array([0.0, bias], np.float32))
    return EnumerableLM(*(jnp.asarray(part) for part in parts))


def after(prompt, prompt_length, tokens, length):
    first = jnp.asarray(REWARD, jnp.float32)[tokens[:, 0]]
    second = jnp.asarray(SECOND_REWARD, jnp.float32)[tokens[:, 0], tokens[:, 1]]
    return jnp.where(length == 1, first, second)


@pytest.fixture(scope="module")
def coins() -> StepSampler:
    model = two_coins()
    np.testing.assert_allclose(next_probs(model, [0])[1], FIRST, atol=1e-6)
    np.testing.assert_allclose([next_probs(model, [0, x])[1] for x in (0, 1)], SECOND, atol=1e-6)
    generator = Generator(model, Identity(), Categorical(), Stop.of(()), 2)
    return StepSampler(generator, Stop.of(()), width=1, depth=2)


def run(decoder):
    prompt = Prompt.of([[0]] * ROWS, width=1)
    return jax.device_get(decode(decoder, 0, prompt))


def fraction(particles: int) -> float:
    """E[share of particles with x1 = 1 after one resampling by odds], summed exactly."""
    odds, total = REWARD / (1 - REWARD), 0.0
    for ones in range(particles + 1):
        chance = comb(particles, ones) * FIRST**ones * (1 - FIRST) ** (particles - ones)
        weight = np.array([(particles - ones) * odds[0], ones * odds[1]])
        total += chance * weight[1] / weight.sum()
    return total


def test_resampling_is_unbiased_and_what_follows_has_the_models_law(coins):
    """Known answers: .485294 at N=2, .677803 at 4, .847517 at 16; z-tests over many prompts."""
    for count, wanted in ((1, 0.3), (2, 0.485294), (4, 0.677803), (16, 0.847517)):
        np.testing.assert_allclose(fraction(count), wanted, atol=1e-6)
    result = run(Particles(coins, StepFunction(after), PARTICLES))
    tokens = result.trace.tokens
    ones = fraction(PARTICLES)
    for values, mean in (
        (tokens[..., 0] == 1, ones),
        ((tokens == [1, 1]).all(2), ones * SECOND[1]),
        ((tokens == [0, 1]).all(2), (1 - ones) * SECOND[0]),
    ):
        shares = values.mean(1)
        z = (shares.mean() - mean) / (shares.std() / np.sqrt(ROWS))
        assert abs(z) < 4, (shares.mean(), mean)
    rewards = SECOND_REWARD[tokens[..., 0], tokens[..., 1]]
    np.testing.assert_allclose(result.trace.score, rewards, rtol=1e-6)
    np.testing.assert_array_equal(result.trace.best, rewards.argmax(1))
    chosen = tokens[np.arange(ROWS), result.trace.best]
    np.testing.assert_array_equal(result.tokens, chosen)
    assert (result.usage.emitted == 2 * PARTICLES).all()
    assert (result.usage.scorer_passes == 2 * PARTICLES).all()


def test_a_gibbs_sweep_keeps_its_reference_and_nears_the_posterior(coins):
    """The first particle of the second run is one of the first run's paths, and draws improve."""
    result = run(Particles(coins, StepFunction(after), 2, iterations=4))
    assert (result.status == Status.LENGTH).all()
    # Two particles alone come to .485; conditioned on a reference, sweep after sweep, to more.
    share = (result.trace.tokens[:, :, 0] == 1).mean()
    assert share > fraction(2) + 0.1, share
    assert (result.usage.emitted == 2 * 2 + 3 * 2).all()  # the reference is not drawn again


def test_weights_are_what_they_are_called():
    rewards = jnp.array([0.9, 0.5, 0.2])
    known: dict[Weights, tuple[float, ...]] = {
        "odds": (0.8780, 0.0976, 0.0244),
        "softmax": (0.4615, 0.3093, 0.2292),
        "proportional": (0.5625, 0.3125, 0.1250),
    }
    for rule, wanted in known.items():
        got = jax.nn.softmax(log_weights(rule, rewards, 1.0))
        np.testing.assert_allclose(got, wanted, atol=6e-5)
    logits = jnp.array([2.1, -1.2, 1.3, 0.1])
    found = jax.nn.softmax(log_weights("odds", jax.nn.sigmoid(logits), 1.0))
    np.testing.assert_allclose(found, (0.6167, 0.0227, 0.2771, 0.0835), atol=5e-4)
    edges = log_weights("odds", jnp.array([0.0, 1.0, -jnp.inf]), 1.0)
    assert np.isfinite(edges[:2]).all() and edges[2] == -jnp.inf


def test_rewards_of_a_path_combine():
    rewards = jnp.array([0.9, 0.4, 0.6])
    known: dict[Aggregation, float] = {"last": 0.6, "min": 0.4, "prod": 0.216, "mean": 1.9 / 3}
    for rule, wanted in known.items():
        score = jnp.ones(())
        for step, reward in enumerate(rewards, start=1):
            score = aggregate(rule, score, reward, jnp.array(step))
        np.testing.assert_allclose(score, wanted, rtol=1e-6)
    inside, outside = bounded(jnp.array([1.2, -0.5, 0.3, jnp.nan, jnp.inf]))
    np.testing.assert_array_equal(inside, jnp.array([1, 0, 0.3, jnp.nan, jnp.inf]))
    np.testing.assert_array_equal(outside, [True, True, False, False, False])


def test_beams_keep_the_best_and_trees_keep_apart(coins):
    """Two trees of two: each goes on from its better first step, by the rewards alone."""

    def rises(prompt, prompt_length, tokens, length):
        return 1.5 * tokens[:, 0] - 0.25 * (length == 1)  # 1.25, 1.5 and -.25 lie outside

    result = run(StepBeams.dvts(4, 2, coins, StepFunction(rises)))
    firsts = result.trace.tokens[:, :, 0].reshape(ROWS, 2, 2)
    alive = result.trace.length.reshape(ROWS, 2, 2) > 0
    np.testing.assert_array_equal(firsts[alive], firsts.max(2, keepdims=True).repeat(2, 2)[alive])
    lone = firsts.max(2).mean()  # the better of two coins
    assert abs(lone - (1 - (1 - FIRST) ** 2)) < 4 * 0.5 / np.sqrt(2 * ROWS)
    assert (result.trace.outside > 0).any() and (result.usage.invalid == 0).all()
    assert (result.usage.emitted == 8).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s, e: Particles(s, e, 0), "particles=0"),
        (lambda s, e: Particles(s, e, 1, iterations=2), "particles=1: at least 2"),
        (lambda s, e: Particles(s, e, 2, **RANK), "weights='rank'"),
        (lambda s, e: Particles(s, e, 2, **SUM), "aggregation='sum'"),
        (lambda s, e: Particles(s, e, 2, temperature=0.0), "temperature=0.0"),
        (lambda s, e: StepBeams(s, e, keep=0), "keep=0"),
        (lambda s, e: StepBeams.dvts(4, 3, s, e), "branch=3 must divide samples=4"),
        (lambda s, e: StepSampler(s.generator, s.delimiter, 0, 2), "width=0"),
        (lambda s, e: StepSampler(s.generator, s.delimiter, 2, 0), "depth=0"),
    ],
)
def test_what_cannot_be_is_refused(coins, make, message):
    with pytest.raises(ValueError, match=message):
        make(coins, StepFunction(after))
