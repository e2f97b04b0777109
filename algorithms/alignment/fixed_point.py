"""The transform that is optimal for a calibrated procedure at one beta.

The optimum of W - beta KL solves the coupled equations (Balashankar et al. 2024, arXiv 2412.19792)

    f = exp(phi / beta) / Z,    phi'(u) = g(F(u)) g(u),

which for best-of-N is phi(u) = -N^2 integral_u^1 (F v)^(N-1) dv. The iteration is
phi <- (1 - a) phi + a phi_new, mirror ascent on an objective that is strictly concave for
best-of-N. Without damping it cycles there at small beta. The damping a is halved whenever the
residual, the centred sup norm of phi_new - phi, has not halved within `PATIENCE` iterations.

The certificate is that residual, of the undamped map at the phi returned: below it, phi is its
own image. For smooth g there are exact identities beside it, `FixedPoint.identities`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.alignment.procedures import BestOf, Procedure, WorstOf
from algorithms.alignment.tilt import NODES, Floats, Tilt, accumulate, solve, tilt

PATIENCE = 30


@dataclass(frozen=True)
class FixedPoint:
    """A solution and its certificate.

    Attributes:
      phi: f64[G] on a uniform grid, zero at the right end.
      beta, procedure: what it is optimal for, and for nothing else.
      tilt: of phi at beta.
      residual: centred sup change of phi under one more undamped iteration.
      iterations, damping: how many it took, and the last a.
    """

    phi: Floats
    beta: float
    procedure: Procedure
    tilt: Tilt
    residual: float
    iterations: int
    damping: float

    @property
    def log_scale(self) -> float:
        return 0.0

    def __call__(self, u: Floats) -> Floats:
        return np.interp(u, np.linspace(0.0, 1.0, len(self.phi)), self.phi)

    @property
    def win(self) -> float:
        """The inference-time win rate, the largest at this beta and KL."""
        return self.tilt.win(self.procedure)

    def identities(self) -> tuple[float, float]:
        """(win rate, KL) from the density's value at one end; exact at the fixed point.

        best-of-N:   W = (beta / N)(f(1) - 1),       KL = ln f(1) - (N / beta)(1 - W)
        worst-of-N:  W = 1 - (beta / N)(1 - f(0)),   KL = N W / beta + ln f(0)

        Raises:
          ValueError: for another procedure.
        """
        beta = self.beta
        match self.procedure:
            case BestOf(n):
                end = float(self.tilt.density[-1])
                win = beta / n * (end - 1.0)
                return win, np.log(end) - n / beta * (1.0 - win)
            case WorstOf(n):
                end = float(self.tilt.density[0])
                win = 1.0 - beta / n * (1.0 - end)
                return win, n * win / beta + np.log(end)
        raise ValueError(f"procedure={self.procedure}: there are identities for BestOf and WorstOf")


def image(phi: Floats, procedure: Procedure, beta: float) -> Floats:
    """One undamped iteration, zero at the right end."""
    law = tilt(phi, beta)
    grid = np.linspace(0.0, 1.0, len(phi))
    rising = accumulate(procedure.density(law.cdf) * procedure.density(grid))
    return rising - rising[-1]


def fixed_point(
    procedure: Procedure,
    beta: float,
    nodes: int = NODES,
    tolerance: float = 1e-10,
    limit: int = 20_000,
    start: Floats | None = None,
) -> FixedPoint:
    """Solve for phi.

    Args:
      start: first phi on the grid; by default that of the base policy.
    Raises:
      ArithmeticError: the residual is not below `tolerance` after `limit` iterations.
      ValueError: beta is not positive.
    """
    phi = np.zeros(nodes) if start is None else start
    damping, checked, residual = 1.0, np.inf, np.inf
    for iteration in range(1, limit + 1):
        change = image(phi, procedure, beta) - phi
        residual = 0.5 * float(change.max() - change.min())
        if residual < tolerance:
            return FixedPoint(phi, beta, procedure, tilt(phi, beta), residual, iteration, damping)
        if iteration % PATIENCE == 0:
            if residual > 0.5 * checked:
                damping *= 0.5
            checked = residual
        phi = phi + damping * change
    raise ArithmeticError(
        f"procedure={procedure}, beta={beta}: no fixed point after limit={limit} iterations, the "
        f"residual is {residual:.3g} and tolerance={tolerance:g}; raise beta, limit or tolerance"
    )


def fixed_point_at(procedure: Procedure, kl: float, nodes: int = NODES) -> FixedPoint:
    """The fixed point whose policy has this KL, in nats; every try starts from the last one's."""
    last: list[FixedPoint] = []

    def kl_of(beta: float) -> float:
        start = last[-1].phi if last else None
        last[:] = [fixed_point(procedure, beta, nodes, start=start)]
        return last[-1].tilt.kl

    return fixed_point(procedure, solve(kl_of, kl), nodes, start=last[-1].phi)
