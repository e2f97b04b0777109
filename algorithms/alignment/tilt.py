"""What a transformed reward does to win rates, with no model at all.

If no two responses have equal reward, the quantile C(y) of a response of the base policy is
uniform, and under the policy pi_ref exp(phi(C) / beta) / Z it has the density and distribution

    f(u) = exp(phi(u) / beta) / Z,    F(u) = integral of f up to u,

whatever the reward, the base policy and the prompt. Hence (Balashankar et al. 2024, arXiv
2412.19792), for a calibrated procedure with g and G,

    KL = integral f ln f,    W = 1 - integral G(F(u)) g(u) du,

and W with G(u) = u is the standard win rate, 1 - integral F. Everything is NumPy in float64 on a
uniform grid, by the trapezoid rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.alignment.procedures import Procedure, Single

Floats = NDArray[np.floating[Any]]
NODES = 20_001


def integrate(values: Floats) -> float:
    """The integral over [0, 1] of values on a uniform grid."""
    return float((values.sum() - 0.5 * (values[0] + values[-1])) / (len(values) - 1))


def accumulate(values: Floats) -> Floats:
    """The integral from 0 to every grid point."""
    steps = 0.5 * (values[1:] + values[:-1]) / (len(values) - 1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def inference_win(cdf: Floats, procedure: Procedure) -> float:
    """W of a policy whose base quantile has the distribution `cdf` on the grid, against the base;
    the procedure is applied to both."""
    grid = np.linspace(0.0, 1.0, len(cdf))
    return 1.0 - integrate(procedure.cdf(cdf) * procedure.density(grid))


@dataclass(frozen=True)
class Tilt:
    """The base quantile's law under the optimal policy of one transform and beta.

    Attributes:
      density, cdf: f and F on the grid.
      log_partition: ln Z, of the transform in its own units.
    """

    density: Floats
    cdf: Floats
    log_partition: float

    @property
    def kl(self) -> float:
        """D(pi || pi_ref) of a whole response, in nats."""
        f = self.density
        return integrate(f * np.log(np.where(f > 0, f, 1.0)))

    @property
    def standard(self) -> float:
        """The win rate of one sample."""
        return self.win(Single())

    def win(self, procedure: Procedure) -> float:
        """The inference-time win rate."""
        return inference_win(self.cdf, procedure)


def tilt(phi: Callable[[Floats], Any] | Floats, beta: float, nodes: int = NODES) -> Tilt:
    """The tilt by exp(phi / beta).

    Args:
      phi: a function of quantiles, or its values on a grid of their number. Where it has a
        `log_scale`, beta is in units without it: the tilt is by phi e^log_scale / beta.
    """
    if not beta > 0:
        raise ValueError(f"beta={beta}: the strength of the KL penalty must be positive")
    if callable(phi):
        values = np.asarray(phi(np.linspace(0.0, 1.0, nodes)), np.float64)
        beta = beta * math.exp(-getattr(phi, "log_scale", 0.0))
    else:
        values = phi
    top = float(values.max())
    weight = np.exp((values - top) / beta)
    total = integrate(weight)
    density = weight / total
    cdf = accumulate(density)
    return Tilt(density, cdf / cdf[-1], top / beta + math.log(total))


def beta_of(kl: float, phi: Callable[[Floats], Any], nodes: int = NODES) -> float:
    """The beta at which the tilt by phi has this KL; in unscaled units."""
    scale = math.exp(getattr(phi, "log_scale", 0.0))
    return solve(lambda beta: tilt(phi, beta, nodes).kl, kl, scale)


def solve(kl_of: Callable[[float], float], kl: float, start: float = 1.0) -> float:
    """The beta with kl_of(beta) = kl, for a function that falls with beta.

    Walks by factors of two from `start`, then bisects: what is hard at small betas is not asked
    for there in vain.

    Raises:
      ValueError: none within a factor 2^40 of `start` has this KL.
    """
    low = high = start
    while kl_of(high) > kl and high < start * 2.0**40:
        high *= 2.0
    low = high
    while kl_of(low) < kl and low > start * 2.0**-40:
        high, low = low, low / 2.0
    if not kl_of(high) <= kl <= kl_of(low):
        raise ValueError(f"kl={kl} nats is not reached by any beta in {low:.3g}..{high:.3g}")
    while high / low > 1.0 + 1e-10:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if kl_of(middle) > kl else (low, middle)
    return math.sqrt(low * high)


def best_of_n(samples: int) -> tuple[float, float]:
    """(win rate, KL) of the best-of-N policy: N / (N + 1) and ln N - (N - 1) / N.

    With tied rewards both are upper bounds.
    """
    return samples / (samples + 1), math.log(samples) - (samples - 1) / samples


def identity(beta: float) -> tuple[float, float]:
    """(win rate, KL) of the calibrated reward itself."""
    win = 1.0 / -math.expm1(-1.0 / beta) - beta
    return win, win / beta - (math.log(beta) + 1.0 / beta + math.log(-math.expm1(-1.0 / beta)))


def logarithm(beta: float, samples: int) -> tuple[float, float]:
    """(best-of-N win rate, KL) of the log transform: m / (m + 1) for every N, m = 1 + 1 / beta."""
    m = 1.0 + 1.0 / beta
    return m / (m + 1.0), math.log(m) - (m - 1.0) / m
