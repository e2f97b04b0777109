"""Transforms of a calibrated reward: increasing functions of the quantile u in [0, 1].

Reinforcement learning with the reward phi(C) and the strength beta of the KL penalty has the
optimum pi_ref exp(phi(C) / beta) / Z. A transform may stand for e^log_scale times what it returns,
which is the same policy at beta e^-log_scale: so exp(10 u) trains without overflow.

Which transform is best depends on the procedure, on N and on beta; see
`algorithms.alignment.fixed_point`. Those here are the families of Balashankar et al. 2024
(arXiv 2412.19792), and u^N for comparison, which is not optimal for best-of-N. With
phi = log u and beta = 1 / (N - 1) the optimum is the best-of-N policy itself, which is what BOND
(Sessa et al. 2024, arXiv 2407.14622) distils.

All take and give arrays of NumPy or JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.types import Array, Float


@runtime_checkable
class Transform(Protocol):
    """An increasing function of quantiles, and the logarithm of what it is to be multiplied by."""

    def __call__(self, u: Any) -> Any: ...

    @property
    def log_scale(self) -> float:
        """The logarithm of what its values are to be multiplied by."""
        ...


def namespace(u: Any) -> Any:
    """NumPy for host arrays, which keeps float64; else JAX."""
    return np if isinstance(u, np.ndarray | float) else jnp


@struct.dataclass
class Identity:
    """phi = u: calibration alone, optimal for the standard win rate."""

    def __call__(self, u: Any) -> Any:
        return u

    @property
    def log_scale(self) -> float:
        return 0.0


@struct.dataclass
class Log:
    """phi = log u.

    Attributes:
      floor: quantiles below it count as it. The estimate from K samples can be 0, which stands
        for anything up to about 1 / K.
    """

    floor: float | Float[Array, ""] = 0.0

    def __call__(self, u: Any) -> Any:
        with np.errstate(divide="ignore"):
            return namespace(u).log(namespace(u).maximum(u, self.floor))

    @property
    def log_scale(self) -> float:
        return 0.0


@struct.dataclass
class Exponential:
    """phi = sign(t) e^(t u): t > 0 stresses high quantiles, t < 0 low ones.

    Returned is phi e^-max(t, 0); `log_scale` is max(t, 0). Static.
    """

    t: float = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        if self.t == 0:
            raise ValueError("t=0: the transform is constant; use Identity, its limit")

    def __call__(self, u: Any) -> Any:
        sign = 1.0 if self.t > 0 else -1.0
        return sign * namespace(u).exp(self.t * u - self.log_scale)

    @property
    def log_scale(self) -> float:
        return max(self.t, 0.0)


@struct.dataclass
class Power:
    """phi = u^n."""

    n: float | Float[Array, ""]

    def __call__(self, u: Any) -> Any:
        return u**self.n

    @property
    def log_scale(self) -> float:
        return 0.0


@struct.dataclass
class Table:
    """phi by linear interpolation between its values at 0, 1 / (G - 1), ..., 1."""

    values: Float[Array, "G"]

    def __call__(self, u: Any) -> Any:
        grid = np.linspace(0.0, 1.0, len(self.values))
        return namespace(u).interp(u, grid, self.values)

    @property
    def log_scale(self) -> float:
        return 0.0


@struct.dataclass
class Function:
    """phi given by the user; static, and written for JAX arrays if it is to be trained with."""

    function: Callable[[Any], Any] = struct.field(pytree_node=False)

    def __call__(self, u: Any) -> Any:
        return self.function(u)

    @property
    def log_scale(self) -> float:
        return 0.0


def tabulate(transform: Transform, nodes: int) -> Table:
    """The transform as a table, in units of e^log_scale.

    With nodes = 2 K + 1 it is exact at every quantile that K samples can give, and all transforms
    train with one compiled program.
    """
    values = np.asarray(transform(np.linspace(0.0, 1.0, nodes)), np.float64)
    if not np.all(np.isfinite(values)):
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(
            f"transform: its value at quantile {bad / (nodes - 1):g} is {values[bad]}; a reward "
            "must be finite, for a logarithm give a floor such as 1 / (2 K)"
        )
    return Table(jnp.asarray(values, jnp.float32))


def noise(transform: Transform, samples: int, nodes: int = 200) -> float:
    """The share of a transformed reward's variance that K = `samples` rollouts leave as noise.

    1 - Var E[phi(C_hat) | C] / Var phi(C_hat), with K C_hat binomial and C uniform. For the
    identity it is 1 / (K / 2 + 1), and more for transforms that are steep somewhere.
    """
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, samples + 1)))])
    wins = np.arange(samples + 1)
    u = (np.arange(nodes)[:, None] + 0.5) / nodes
    choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    law = np.exp(choose + wins * np.log(u) + (samples - wins) * np.log1p(-u))
    value = np.asarray(transform(wins / samples), np.float64)
    mean = law @ value
    total = np.mean(law @ value**2) - np.mean(mean) ** 2
    return float(1.0 - np.var(mean) / total)
