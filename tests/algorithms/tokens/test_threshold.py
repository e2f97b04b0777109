"""The learner of AdaDec's threshold on worked numbers and on a law that is known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.tokens import threshold
from algorithms.tokens.rules.triggers import Uncertain
from algorithms.tokens.threshold import Threshold, at, learn, logistic
from jaxdecode import entropy
from jaxdecode.testing.enumerable import EnumerableLM, next_probs
from models.presets import small
from models.transformer import Transformer
from tests.references.adadec import entropy as plain_entropy


def test_worked_cuts() -> None:
    """Two published models' curves and thresholds."""
    np.testing.assert_allclose(at(0.05, -4.221201, 1.841364), 1.133754, atol=2e-6)
    np.testing.assert_allclose(at(0.15, -2.631170, 1.741931), 1.321288, atol=2e-6)


def test_a_known_law_is_found_again() -> None:
    """P(first | H) = sigma(3 - 3 H): 1/2 at an entropy of 1."""
    rng = np.random.default_rng(0)
    h = rng.exponential(0.3, 400_000)
    first = rng.random(len(h)) < 1 / (1 + np.exp(-(3 - 3 * h)))
    found = learn(h, first)
    np.testing.assert_allclose(found.first, 0.862, atol=0.003)
    np.testing.assert_allclose(found.weight, -3.0, atol=0.1)
    np.testing.assert_allclose(found.bias, 3 - np.log(found.first / (1 - found.first)), atol=0.05)
    assert 0.12 <= found.cut <= 0.17
    np.testing.assert_allclose(found.value, 1.0, atol=0.06)
    assert found.balanced < 0.5 < found.value  # the tempting cut at 1/2 pauses far more often
    assert np.mean(h >= found.balanced) > 3 * found.above


def test_a_model_that_is_always_more_likely_wrong_always_pauses() -> None:
    """No entropy is negative, and no trigger takes such a threshold."""
    rng = np.random.default_rng(0)
    entropies = rng.exponential(0.5, 20_000)
    first = rng.random(len(entropies)) < 1 / (1 + np.exp(0.3 + entropies))
    found = learn(entropies, first)
    assert at(found.cut, found.weight, found.bias) < 0
    assert found.value == 0 and found.above == 1 and Uncertain(found.value).threshold == 0


def test_the_curve_is_the_maximum_of_likelihood() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = rng.random(200) < 1 / (1 + np.exp(-(0.5 - 2 * x)))
    weight, bias = logistic(x, y)

    def loss(w, c):
        return np.log1p(np.exp(-np.where(y, 1, -1) * (w * x + c))).sum() + w * w / 2

    best = loss(weight, bias)
    for dw, dc in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(weight + dw, bias + dc) > best


def test_entropies_and_ranks_of_what_was_said() -> None:
    model = Transformer(small(11, hidden=32, layers=1), rngs=nnx.Rngs(0))
    tokens = jnp.asarray([[1, 5, 3, 2, 0], [4, 4, 9, 0, 0]])
    said = jnp.asarray([[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], bool)
    h, rank = threshold.read(model, tokens, said, jnp.asarray([4, 3]))
    logits, _ = model.forward(tokens[:, :-1])
    for row, column in np.argwhere(np.asarray(said)):
        p = np.asarray(jnp.exp(logits[row, column - 1]), np.float64)
        p /= p.sum()
        np.testing.assert_allclose(h[row, column - 1], plain_entropy(p), rtol=1e-4)
        order = np.argsort(-p, kind="stable").tolist()
        assert int(rank[row, column - 1]) == 1 + order.index(int(tokens[row, column]))
    assert (np.asarray(rank)[~np.asarray(said)[:, 1:]] == 0).all()


def test_entropy_of_known_laws() -> None:
    logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.125, 0.125], [1.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(entropy.bits(logits), [1.75, 0.0], atol=1e-6)
    np.testing.assert_allclose(entropy.bits(jnp.zeros((1, 151936))), 17.2131, atol=1e-4)
    np.testing.assert_allclose(entropy.bits(jnp.zeros((1, 128256))), 16.9687, atol=1e-4)
    np.testing.assert_allclose(entropy.nats(jnp.zeros((1, 64))), np.log(64), atol=1e-6)
    law = next_probs(EnumerableLM.random(0, 5), [1, 2])
    np.testing.assert_allclose(entropy.nats(jnp.log(law)), plain_entropy(law), atol=1e-6)


def test_refusals() -> None:
    stored = Threshold(1.0, -3.0, 2.0, 0.1, 0.9, 0.05, 100, "abc")
    assert Threshold.loads(stored.dumps()) == stored
    assert stored.of("abc") == 1.0
    with pytest.raises(ValueError, match="learned from the model abc"):
        stored.of("def")
    with pytest.raises(ValueError, match="no stored threshold"):
        Threshold.loads('{"value": 1}')
    with pytest.raises(ValueError, match="first choice"):
        learn(np.ones(100), np.ones(100, bool))
    rng = np.random.default_rng(0)
    h = rng.random(1000)
    with pytest.raises(ValueError, match="nothing to pause by"):
        learn(h, rng.random(1000) < h)
