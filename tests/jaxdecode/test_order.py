"""Order statistics against all subsets."""

from itertools import combinations
from math import comb

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.order import best_weights, expected_best, expected_value_of_best, pass_at

SCORES = [0.3, -1.0, 0.3, 2.0, -0.5, 2.0, 0.1]
VALUES = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.5]


@pytest.mark.parametrize("best_of", range(1, 8))
def test_all_subsets(best_of) -> None:
    subsets = list(combinations(range(7), best_of))
    largest = np.mean([max(SCORES[i] for i in subset) for subset in subsets])
    np.testing.assert_allclose(expected_best(jnp.array(SCORES), best_of), largest, rtol=1e-6)
    # `max` returns the first of equal scores, and subsets are in the order of the samples.
    value = np.mean([VALUES[max(subset, key=lambda i: SCORES[i])] for subset in subsets])
    found = expected_value_of_best(jnp.array(SCORES), jnp.array(VALUES), best_of)
    np.testing.assert_allclose(found, value, rtol=1e-6)


@pytest.mark.parametrize(("samples", "best_of"), [(1, 1), (10, 3), (64, 64), (64, 1), (300, 120)])
def test_weights(samples, best_of) -> None:
    exact = [comb(k - 1, best_of - 1) / comb(samples, best_of) for k in range(1, samples + 1)]
    weights = best_weights(samples, best_of)
    np.testing.assert_allclose(weights, exact, rtol=1e-9)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)


def test_weights_of_many_samples_stay_finite() -> None:
    """The binomials themselves are beyond float64."""
    weights = best_weights(20000, 9000)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-9)


def test_a_sample_that_cannot_win_may_be_minus_infinity() -> None:
    scores = jnp.array([-jnp.inf, 1.0, 2.0])
    assert expected_best(scores, 2) == pytest.approx((1 + 2 + 2) / 3)
    assert expected_best(scores, 1) == -jnp.inf


def test_leading_axes() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(2, 3, 4, 9)).astype(np.float32)
    together = expected_value_of_best(jnp.asarray(scores), jnp.asarray(values), 3)
    assert together.shape == (3, 4)
    one = expected_value_of_best(jnp.asarray(scores[1, 2]), jnp.asarray(values[1, 2]), 3)
    np.testing.assert_allclose(together[1, 2], one, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_pass_at(k) -> None:
    correct = np.arange(9)
    exact = [1 - comb(8 - c, k) / comb(8, k) for c in correct]
    np.testing.assert_allclose(pass_at(jnp.asarray(correct), 8, k), exact, atol=1e-6)
    # It is the expected best of right and wrong.
    right = jnp.asarray(np.arange(8) < correct[:, None], jnp.float32)
    np.testing.assert_allclose(expected_best(right, k), exact, atol=1e-6)


def test_refusals() -> None:
    for best_of in (0, 5):
        with pytest.raises(ValueError, match=f"best_of={best_of}"):
            best_weights(4, best_of)
    with pytest.raises(ValueError, match="k=5"):
        pass_at(jnp.array(1), 4, 5)
