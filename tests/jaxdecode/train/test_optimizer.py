"""The schedules and the clip are what their numbers say."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdecode.train.optimizer import Optimizer


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [("constant", 0.1, 0.1), ("linear", 0.06, 0.02), ("cosine", 0.06, 0.02)],
)
def test_rates_rise_and_fall(schedule, middle: float, last: float) -> None:
    rates = Optimizer(0.1, 110, schedule, warmup=10, end=0.2).rates
    found = [np.asarray(rates(step)) for step in (0, 5, 10, 60, 110, 200)]
    np.testing.assert_allclose(found, [0, 0.05, 0.1, middle, last, last], rtol=1e-5, atol=1e-8)


def test_without_a_warm_up_the_peak_comes_first() -> None:
    assert np.asarray(Optimizer(0.1, 10).rates(0)) == pytest.approx(0.1)


def test_long_gradients_are_shortened() -> None:
    """Adam divides the length out of a gradient; what is left shows in its moments."""
    weights, gradient = jnp.zeros(4), jnp.array([3.0, 0.0, 4.0, 0.0])
    moments = {}
    for clip in (None, 10.0, 1.0):
        made = Optimizer(0.1, 10, "constant", clip=clip).build()
        _, state = made.update(gradient, made.init(weights), weights)
        moments[clip] = np.asarray(optax.tree.get(state, "mu"))
    np.testing.assert_allclose(moments[None], 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(moments[10.0], moments[None])
    np.testing.assert_allclose(moments[1.0], 0.1 * gradient / 5, rtol=1e-6)


def test_weights_decay() -> None:
    made = Optimizer(0.1, 10, "constant", decay=0.5).build()
    weights = jnp.array([2.0])
    change, _ = made.update(jnp.zeros(1), made.init(weights), weights)
    np.testing.assert_allclose(np.asarray(change), [-0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warmup": 10}, r"warmup=10 must lie in 0\.\.9"),
        ({"rate": 0.0}, "rate=0.0, end=0.0: need rate > 0"),
        ({"end": 1.5}, "end=1.5"),
        ({"clip": 0.0}, "clip=0.0: a norm is positive"),
        ({"schedule": "cosin"}, "schedule='cosin': use constant, linear or cosine"),
    ],
)
def test_bad_numbers_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        Optimizer(**{"rate": 0.1, "updates": 10, **change})
