"""Procedures, tilts and their fixed point for a policy over a few responses, exactly, with ties.

A policy is f64[V]; equal rewards form groups, and everything follows from the mass of what is
worse and of what is no better than a response. With C' the calibrated reward under T(pi_ref), the
reward that makes pi the optimum (Balashankar et al. 2024, arXiv 2412.19792) is

    R(y) = dW / dpi(y) = sum_z C'(z) dT(pi)(z) / dpi(y)
         = sum over groups k >= k(y) of (c_k - c_(k+1)) g(F_k),    up to a constant,

by summation by parts, with c_k the value of C' on group k. Functions that take a policy are also
differentiable in it by JAX.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from algorithms.alignment.procedures import Procedure
from algorithms.alignment.tilt import Floats


def calibrate(policy: Any, reward: Floats) -> Any:
    """C(y) = sum_z policy(z) w(reward(y), reward(z)); its mean under the policy is 1/2."""
    below, upto = _mass(policy, reward)
    return 0.5 * (below + upto)


def apply(procedure: Procedure, policy: Any, reward: Floats) -> Any:
    """T(pi): the law of what the procedure returns; ties are broken at random."""
    below, upto = _mass(policy, reward)
    group = upto - below
    share = policy / (group + (group == 0))
    return share * (procedure.cdf(upto) - procedure.cdf(below))


def win(policy: Any, base: Any, reward: Floats, procedure: Procedure) -> Any:
    """The inference-time win rate of `policy` over `base`, the procedure applied to both."""
    return apply(procedure, policy, reward) @ calibrate(apply(procedure, base, reward), reward)


def kl(policy: Floats, base: Floats) -> float:
    """D(policy || base) in nats."""
    some = policy > 0
    return float(np.sum(policy[some] * np.log(policy[some] / base[some])))


def tilted(base: Floats, phi: Floats, beta: float) -> Floats:
    """base exp(phi / beta) / Z."""
    weight = base * np.exp((phi - phi.max()) / beta)
    return weight / weight.sum()


def coupled_reward(procedure: Procedure, policy: Floats, base: Floats, reward: Floats) -> Floats:
    """R above, its smallest value 0."""
    value = calibrate(apply(procedure, base, reward), reward)
    _, upto = _mass(policy, reward)
    levels, first, group = np.unique(reward, return_index=True, return_inverse=True)
    step = np.append(-np.diff(value[first]), 0.0)  # the last group's is the same for all
    total = np.cumsum((step * procedure.density(upto[first]))[::-1])[::-1]
    assert len(total) == len(levels)
    return total[group] - total[group].min()


def fixed_point(
    procedure: Procedure,
    base: Floats,
    reward: Floats,
    beta: float,
    damping: float = 0.2,
    tolerance: float = 1e-12,
    limit: int = 100_000,
) -> tuple[Floats, Floats]:
    """(policy, R): the policy is the tilt of the base by R / beta, and R is its coupled reward.

    Raises:
      ArithmeticError: R still changes by more than `tolerance` after `limit` iterations.
    """
    phi = np.zeros_like(base)
    for _ in range(limit):
        policy = tilted(base, phi, beta)
        change = coupled_reward(procedure, policy, base, reward) - phi
        if np.abs(change).max() < tolerance:
            return policy, phi
        phi = phi + damping * change
    raise ArithmeticError(f"beta={beta}: no fixed point in limit={limit} iterations; damp more")


def _mass(policy: Any, reward: Floats) -> tuple[Any, Any]:
    """What the policy gives to worse responses, and to those no better."""
    less = (reward[None, :] < reward[:, None]).astype(np.float64)
    equal = (reward[None, :] == reward[:, None]).astype(np.float64)
    below = less @ policy
    return below, below + equal @ policy
