"""The kernel that bisects, interpreted, finds the thresholds of the plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.kernels.threshold import threshold
from jaxdecode.logits.threshold import mass_threshold, ordered, rank_threshold


@pytest.mark.parametrize(("rows", "vocab"), [(3, 37), (11, 2048 + 130)])
def test_thresholds_are_those_of_the_plain_loop(rows: int, vocab: int) -> None:
    """Fewer rows than are held together and more, columns that fill chunks and that do not."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=(rows, vocab)).astype(np.float32)
    score[0, 5:9] = score[0].max()  # a tie
    score[1, 3:] = -np.inf  # almost nothing to choose of
    score = jnp.asarray(score)
    weight = jax.nn.softmax(score, axis=1)

    def kept(weight, wanted):
        run = jax.jit(lambda *x: threshold(ordered(x[0]), *x[1:], interpret=True))
        return np.asarray(ordered(score) >= run(score, weight, wanted)[:, None])

    share = jnp.full(rows, 0.7)
    np.testing.assert_array_equal(kept(weight, share), mass_threshold(score, weight, 0.7))
    np.testing.assert_array_equal(kept(None, jnp.full(rows, 3.0)), rank_threshold(score, 3))
    assert (kept(None, jnp.full(rows, 4.0)) != rank_threshold(score, 3)).any()
