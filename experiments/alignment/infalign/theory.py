"""What theory says of inference-aware alignment: curves on the continuum, and exact tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.alignment import tabular
from algorithms.alignment.fixed_point import fixed_point, fixed_point_at
from algorithms.alignment.procedures import BestOf, Procedure, Single, WorstOf
from algorithms.alignment.tilt import beta_of, solve, tilt
from algorithms.alignment.transforms import Exponential, Identity, Log, Transform

NODES = 2001
FAMILY: Mapping[str, Transform] = {
    "identity": Identity(),
    "log": Log(),
    "exp(5)": Exponential(5.0),
    "exp(10)": Exponential(10.0),
    "-exp(-5)": Exponential(-5.0),
    "-exp(-10)": Exponential(-10.0),
}


def procedures(sizes: Sequence[int]) -> dict[str, Procedure]:
    """Standard, and the best and the worst of every size."""
    found: dict[str, Procedure] = {"standard": Single()}
    for n in sizes:
        found |= {f"best-of-{n}": BestOf(n), f"worst-of-{n}": WorstOf(n)}
    return found


def curves(sizes: Sequence[int], kls: Sequence[float]) -> list[dict[str, Any]]:
    """Win rates of every transform and of the optima at every KL, one row each."""
    rows, measured = [], procedures(sizes)
    for kl in kls:
        laws = {name: tilt(phi, beta_of(kl, phi, NODES), NODES) for name, phi in FAMILY.items()}
        row: dict[str, Any] = {"part": "analytic", "kl": kl}
        for name, law in laws.items():
            rows.append(row | {"method": name} | {key: law.win(p) for key, p in measured.items()})
        optima = {
            key: fixed_point_at(procedure, kl, NODES).win for key, procedure in measured.items()
        }
        rows.append(row | {"method": "optimum"} | optima)
    return rows


def frontier(procedure: Procedure, top: float) -> tuple[NDArray, NDArray]:
    """(KL, win rate) of the optima up to a KL of about `top`, rising."""
    kls, wins, beta = [0.0], [0.5], 4.0
    while kls[-1] < top:
        point = fixed_point(procedure, beta, NODES, tolerance=1e-8)
        kls.append(point.tilt.kl)
        wins.append(point.win)
        beta /= 1.25
    return np.array(kls), np.array(wins)


def heteroscedastic(
    prompts: int, outcomes: int, kl: float, n: int, seed: int
) -> list[dict[str, Any]]:
    """Exact policies on tables whose reward scale differs by prompt over two decades, all at one
    mean KL: what calibration is for."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(prompts, outcomes))
    base = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scale = 10.0 ** rng.uniform(-1, 1, size=(prompts, 1))
    reward = scale * rng.normal(size=(prompts, outcomes))
    return compared("tables", base, reward, reward, kl, n)


def compared(
    part: str, base: NDArray, reward: NDArray, judge: NDArray, kl: float, n: int
) -> list[dict[str, Any]]:
    """Exact tilts by every transform of a reward, at one mean KL, and their win rates by a judge;
    all arrays [prompts, outcomes]. `each` has the win rates table by table."""
    tables = list(zip(base, reward, judge, strict=True))
    quantile = np.array([tabular.calibrate(b, r) for b, r, _ in tables])
    names = ("identity", "log", "exp(10)", "-exp(-10)")
    values = {"raw": reward} | {name: np.asarray(FAMILY[name](quantile)) for name in names}
    rows = []
    for name, phi in values.items():

        def tilted(beta: float, phi: NDArray = phi) -> list[NDArray]:
            return [tabular.tilted(b, p, beta) for b, p in zip(base, phi, strict=True)]

        def mean_kl(beta: float, tilted=tilted) -> float:
            each = zip(tilted(beta), base, strict=True)
            return float(np.mean([tabular.kl(policy, b) for policy, b in each]))

        policies = tilted(solve(mean_kl, kl, float(np.std(phi))))
        each: dict[str, list[float]] = {}
        for key, procedure in procedures([n]).items():
            wins = [
                tabular.apply(procedure, policy, r)
                @ tabular.calibrate(tabular.apply(procedure, b, r), j)
                for policy, (b, r, j) in zip(policies, tables, strict=True)
            ]
            each[key] = [float(win) for win in wins]
        means = {key: float(np.mean(wins)) for key, wins in each.items()}
        rows.append({"part": part, "kl": kl, "method": name, "each": each} | means)
    return rows


def hacked(
    prompts: int, outcomes: int, kl: float, n: int, bonus: float, share: float, seed: int
) -> list[dict[str, Any]]:
    """Rewards with a spurious feature that adds `bonus` standard deviations to a `share` of the
    responses: policies are trained, and procedures choose, by that reward; the clean one judges."""
    rng = np.random.default_rng((seed, 1))
    logits = rng.normal(size=(prompts, outcomes))
    base = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    clean = rng.normal(size=(prompts, outcomes))
    reward = clean + bonus * (rng.random((prompts, outcomes)) < share)
    return [row | {"bonus": bonus} for row in compared("hacked", base, reward, clean, kl, n)]
