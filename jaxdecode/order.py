"""Order statistics: what the best of N would have been, from M >= N samples.

Averaging over all C(M, N) subsets has a closed form. With scores sorted in ascending order,
sample k = 1..M is the best of a random subset of N with probability

    a_k = C(k-1, N-1) / C(M, N),     a_M = N / M,     a_(k-1) = a_k (k - N) / (k - 1)

so one set of M samples gives an unbiased estimate for every N up to M, with less variance than
any number of drawn subsets. The recursion from above neither overflows nor cancels.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp
import numpy as np

from jaxdecode.types import Array, Float, Int


def best_weights(samples: int, best_of: int) -> np.ndarray:
    """a_1..a_M, f64[M]: the chance that the k-th smallest of M is the largest of N drawn.

    Raises:
      ValueError: unless 1 <= best_of <= samples.
    """
    if not 1 <= best_of <= samples:
        raise ValueError(
            f"best_of={best_of} must lie in 1..samples={samples}: a subset is drawn without "
            "replacement; draw more samples or ask for fewer"
        )
    above = np.arange(samples, 1, -1, dtype=np.float64)  # k = M..2
    ratio = np.maximum(above - best_of, 0.0) / (above - 1.0)
    return np.cumprod(np.concatenate([[best_of / samples], ratio]))[::-1].copy()


def expected_best(scores: Float[Array, "... M"], best_of: int) -> Float[Array, "..."]:
    """The mean, over subsets of `best_of` samples, of the subset's largest score."""
    weight = jnp.asarray(best_weights(scores.shape[-1], best_of), jnp.float32)
    ascending = jnp.sort(scores, axis=-1)
    # 0 * -inf: a sample that is never the best of a subset does not count.
    return jnp.sum(jnp.where(weight > 0, weight * ascending, 0.0), axis=-1)


def expected_value_of_best(
    scores: Float[Array, "... M"], values: Float[Array, "... M"], best_of: int
) -> Float[Array, "..."]:
    """The mean, over subsets, of the value of the sample with the largest score.

    Of equal scores the first sample is taken. With correctness as the value this is the exact
    accuracy of best-of-N over all subsets.
    """
    chex.assert_equal_shape([scores, values])
    weight = jnp.asarray(best_weights(scores.shape[-1], best_of), jnp.float32)
    # Ascending, and of equal scores the later sample first: it loses to the earlier one.
    backward = jnp.argsort(jnp.flip(scores, axis=-1), axis=-1, stable=True)
    ranked = jnp.take_along_axis(jnp.flip(values, axis=-1), backward, axis=-1)
    return jnp.sum(weight * ranked, axis=-1)


def pass_at(correct: Int[Array, "..."], samples: int, k: int) -> Float[Array, "..."]:
    """The chance that some of k samples, drawn from M of which `correct` are right, is right.

    1 - C(M - c, k) / C(M, k), as a product (Chen et al. 2021, arXiv 2107.03374).

    Raises:
      ValueError: unless 1 <= k <= samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k={k} must lie in 1..samples={samples}: draw more samples")
    drawn = jnp.arange(k)
    wrong = samples - jnp.asarray(correct)[..., None] - drawn
    return 1.0 - jnp.prod(jnp.maximum(wrong, 0) / (samples - drawn), axis=-1)
