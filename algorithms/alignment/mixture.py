"""A procedure of which only samples are known, as a mixture of beta densities.

Whatever a decoder does, the quantiles C of the responses that it returns under the base policy
have some density g on [0, 1]. It is taken to be

    g(u) = sum_k w_k Beta(k + 1, m - k)(u),    k = 0..m-1,    w on the simplex,

which for m >= N holds best-of-N and worst-of-N exactly: N u^(N-1) is Beta(N, 1), and a larger m
holds whatever a smaller one does. m is doubled as long as that makes n samples likelier by more
than log n. A quantile is known from K rollouts only, so that what is observed is binomial given C;
under component k the number of wins is beta-binomial, and expectation-maximisation on that
likelihood undoes the blurring by K instead of fitting it.

This is the law of T at the base policy. That T reweighs the quantiles of every other policy by the
same g is what being calibrated means: true of selection by the reward, and an approximation for a
decoder that looks at something else (a vote, a likelihood, a score of a prefix), to be judged by
the win rates that the aligned policy then reaches.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from algorithms.alignment.tilt import Floats

log_gamma: Callable[..., Any] = np.vectorize(math.lgamma, otypes=[np.float64])


@dataclass(frozen=True)
class Mixture:
    """A calibrated procedure (`algorithms.alignment.procedures`).

    Attributes:
      weights: f64[m], w_0..w_(m-1).
      samples: quantiles that it was estimated from.
    """

    weights: Floats
    samples: int = 0

    def density(self, u: Any) -> Any:
        m = len(self.weights)
        return m * sum(
            float(w) * math.comb(m - 1, k) * u**k * (1.0 - u) ** (m - 1 - k)
            for k, w in enumerate(self.weights)
        )

    def cdf(self, u: Any) -> Any:
        m, below = len(self.weights), np.cumsum(self.weights)
        return sum(
            float(below[j - 1]) * math.comb(m, j) * u**j * (1.0 - u) ** (m - j)
            for j in range(1, m + 1)
        )


FIRST, LAST = 8, 512  # degrees between which it is doubled
EDGE = 0.5  # weight of the last or the first component from which it is said to saturate


def estimate(
    quantiles: Floats,
    rollouts: int,
    degree: int | None = None,
    tolerance: float = 1e-8,
    limit: int = 20_000,
) -> Mixture:
    """The mixture of maximum likelihood.

    Args:
      quantiles: f64[n], of returned responses among `rollouts` base responses each, in [0, 1].
      rollouts: K behind each quantile.
      degree: m; 1 allows the uniform density only. By default 8, doubled while that raises the
        log-likelihood of all n samples by more than log n, up to n, to 2 K, beyond which K
        rollouts tell nothing apart, and to 512.
    Warns:
      UserWarning: more than half of the weight is on the last or the first component, and a
        larger m is not to be had: the procedure may be a more extreme one than the estimate.
    Raises:
      ValueError: a quantile is not in [0, 1], or there are fewer than `degree`.
      ArithmeticError: the likelihood still rises by `tolerance` an iteration after `limit`.
    """
    reach = min(np.size(quantiles), 2 * rollouts, LAST)
    most = max(reach, FIRST) if degree is None else degree
    least = FIRST if degree is None else degree
    fit, value = _fitted(quantiles, rollouts, least, tolerance, limit)
    while (m := 2 * len(fit.weights)) <= most:
        finer, better = _fitted(quantiles, rollouts, m, tolerance, limit)
        if fit.samples * (better - value) <= math.log(fit.samples):
            return fit
        fit, value = finer, better
    if len(fit.weights) > 1 and max(fit.weights[0], fit.weights[-1]) > EDGE:
        warnings.warn(
            f"degree={len(fit.weights)}: {100 * max(fit.weights[0], fit.weights[-1]):.0f} % of the "
            "estimated law is its most extreme component; the procedure may be further out. Draw "
            "more base responses and decode more prompts, or give a larger degree",
            stacklevel=2,
        )
    return fit


def _fitted(
    quantiles: Floats, rollouts: int, degree: int, tolerance: float, limit: int
) -> tuple[Mixture, float]:
    """The mixture of one degree, and the mean log-likelihood, of the binomial's factor without
    the coefficients that no degree changes."""
    x = np.asarray(quantiles, np.float64).ravel()
    if degree < 1 or len(x) < degree:
        raise ValueError(
            f"quantiles: {len(x)} of them do not tell degree={degree} components apart; decode "
            "more prompts or lower the degree"
        )
    if not ((x >= 0) & (x <= 1)).all():
        bad = int(np.flatnonzero(~((x >= 0) & (x <= 1)))[0])
        raise ValueError(f"quantiles[{bad}]={x[bad]} is not in [0, 1]; is its reward finite?")
    samples = len(x)
    x, share = np.unique(x, return_counts=True)  # K rollouts leave 2 K + 1 different ones
    share = share / samples
    a = np.arange(1.0, degree + 1)
    b = degree + 1 - a
    wins = rollouts * x[:, None]
    log_like = log_gamma(wins + a) + log_gamma(rollouts - wins + b) - log_gamma(a) - log_gamma(b)
    log_like += math.lgamma(degree + 1) - math.lgamma(rollouts + degree + 1)
    top = log_like.max(axis=1, keepdims=True)
    like = np.exp(log_like - top)
    weights, before = np.full(degree, 1.0 / degree), -np.inf
    for _ in range(limit):
        mixed = like @ weights
        value = float(share @ np.log(mixed))
        if value - before < tolerance:
            return Mixture(weights, samples), value + float(share @ top[:, 0])
        before = value
        weights = weights * (like.T @ (share / mixed))
    raise ArithmeticError(f"limit={limit} iterations were too few for tolerance={tolerance:g}")
