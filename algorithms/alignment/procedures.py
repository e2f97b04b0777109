"""Inference-time procedures that are calibrated: what they do depends on quantiles alone.

A procedure T turns a policy into another. It is calibrated if

    T(pi)(y) = pi(y) g(C(y)),    C(y) the quantile of y's reward under pi itself,

for a density g on [0, 1] with distribution function G (Balashankar et al. 2024, arXiv 2412.19792).
Best-of-N has g = N u^(N-1); worst-of-N, an adversary who tries N times, N (1-u)^(N-1). With tied
rewards a group of mass p_k below which lies F_(k-1) gets the mass G(F_k) - G(F_(k-1)).

The functions take and give arrays of NumPy or JAX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Procedure(Protocol):
    """A calibrated procedure."""

    def density(self, u: Any) -> Any:
        """g(u)."""
        ...

    def cdf(self, u: Any) -> Any:
        """G(u), the integral of g from 0."""
        ...


@dataclass(frozen=True)
class Single:
    """One sample: the standard win rate."""

    def density(self, u: Any) -> Any:
        return 1.0 + 0.0 * u

    def cdf(self, u: Any) -> Any:
        return u


@dataclass(frozen=True)
class BestOf:
    """The best of `samples` independent responses."""

    samples: int

    def __post_init__(self) -> None:
        _check(self.samples)

    def density(self, u: Any) -> Any:
        return self.samples * u ** (self.samples - 1)

    def cdf(self, u: Any) -> Any:
        return u**self.samples


@dataclass(frozen=True)
class WorstOf:
    """The worst of `samples` independent responses."""

    samples: int

    def __post_init__(self) -> None:
        _check(self.samples)

    def density(self, u: Any) -> Any:
        return self.samples * (1.0 - u) ** (self.samples - 1)

    def cdf(self, u: Any) -> Any:
        return 1.0 - (1.0 - u) ** self.samples


@dataclass(frozen=True)
class Top:
    """A response among those above the quantile `cut`: rejection until one is good enough.

    Its density jumps, so that the optimal tilt leaves everything below the cut alone.
    """

    cut: float

    def __post_init__(self) -> None:
        if not 0 <= self.cut < 1:
            raise ValueError(f"cut={self.cut} must lie in [0, 1): the quantile that is rejected")

    def density(self, u: Any) -> Any:
        return (u > self.cut) / (1.0 - self.cut)

    def cdf(self, u: Any) -> Any:
        return (u > self.cut) * (u - self.cut) / (1.0 - self.cut)


def _check(samples: int) -> None:
    if samples < 1:
        raise ValueError(f"samples={samples}: a procedure needs at least one sample")
