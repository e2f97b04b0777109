"""What was measured of aligning for a decoder: win rates at equal KL, and what a record keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.alignment.procedures import BestOf, Procedure, Single, WorstOf
from experiments.alignment.infalign.theory import frontier
from experiments.harness.statistics import DRAWS, FEWEST, Estimate

Rows = Sequence[dict[str, Any]]
DISTILLED = ("raw", "BOND", "BoNBoN", "SFT")  # the uncalibrated reward, and distillation
OTHERS = ("IPO", "DPO", "GRPO")
REJECTED = ("rejection optimum", "raw", "BoNBoN")
KINDS = ("standard", "best", "worst")
# Whom the judge is asked about, besides the reward.
JUDGED = {
    "standard": ("identity", "raw"),
    "best": ("exp(10)", *DISTILLED, *OTHERS),
    "worst": ("-exp(-10)", *DISTILLED, *OTHERS),
}
AT = {"analytic": 0.5, "tables": 1.0}  # KLs at which theory is judged


def kinds(n: int) -> tuple[Procedure, Procedure, Procedure]:
    return Single(), BestOf(n), WorstOf(n)


def names(n: int) -> tuple[str, str, str]:
    return "standard", f"best-of-{n}", f"worst-of-{n}"


def frontiers(n: int, runs: Rows) -> dict[str, tuple[NDArray, NDArray]]:
    """Kind -> (KL, win rate) of the optima, as far as any policy came."""
    top = max([1.0, *(float(np.mean(run["kl"])) for run in runs)])
    return {kind: frontier(procedure, top) for kind, procedure in zip(KINDS, kinds(n), strict=True)}


def kept(lines: Rows, runs: Rows, bad: Rows) -> dict[str, Any]:
    """What the claims are judged by: table by table, and prompt by prompt, to a thousandth."""
    theory: list[dict[str, Any]] = []
    for row in lines:
        shown = {name: value for name, value in row.items() if name != "each"}
        if row["part"] == "hacked" and row["method"] in ("raw", "identity"):
            theory.append(shown | {"each": _short(row["each"], ["standard"])})
        elif row["kl"] == AT.get(row["part"]) and row["method"] != "optimum":
            theory.append(shown | ({"each": _short(row["each"])} if "each" in row else {}))
    trained = [
        {"method": run["method"], "aim": run["aim"]} | _short(run, _kinds(run["method"]))
        for run in runs
    ]
    hacked = [
        {"method": run["method"], "aim": run["aim"]}
        | _short(run, ["kl", "standard", "standard, judge"])
        for run in bad
    ]
    return {"theory": theory, "trained": trained, "hacked": hacked}


def _kinds(method: str) -> list[str]:
    judged = [f"{kind}, judge" for kind, methods in JUDGED.items() if method in methods]
    rejected = ["rejection", "rejection, judge"] if method in REJECTED else []
    return ["kl", *KINDS, *judged, *rejected]


def _short(found: Mapping[str, Any], some: Iterable[str] | None = None) -> dict[str, Any]:
    return {
        name: np.round(found[name], 3).tolist()
        for name in (found if some is None else some)
        if name in found
    }


def resamples(count: int, seed: int) -> NDArray[np.int64]:
    """Prompts drawn with replacement, i64[draws, count]; the first draw is all of them once."""
    drawn = np.random.default_rng(seed).integers(count, size=(DRAWS, count))
    return np.concatenate([np.arange(count)[None], drawn])


def estimated(found: NDArray[np.float64], prompts: int) -> Estimate:
    """Points, from a share in every one of `resamples`."""
    points = 100 * found
    if prompts < FEWEST:
        return Estimate(float(points[0]), None, None, "points")
    low, high = np.percentile(points[1:], [2.5, 97.5])
    return Estimate(float(points[0]), float(low), float(high), "points")


def at_kl(runs: Rows, method: str, what: str, kl: float, index: NDArray) -> NDArray[np.float64]:
    """A method's win rate at a KL in every resample of prompts: f64[draws].

    Linear between its runs in the root of KL, by which win rates rise from the base's half.
    """
    mine = [found for found in runs if found["method"] == method]
    kls = np.stack([np.array(found["kl"])[index].mean(axis=1) for found in mine])
    wins = np.stack([np.array(found[what])[index].mean(axis=1) for found in mine])
    order = np.argsort(kls, axis=0)
    kls, wins = np.take_along_axis(kls, order, 0), np.take_along_axis(wins, order, 0)
    base = np.zeros((1, kls.shape[1]))
    kls, wins = np.concatenate([base, kls]), np.concatenate([base + 0.5, wins])
    columns = zip(kls.T, wins.T, strict=True)
    return np.array([np.interp(kl**0.5, np.sqrt(np.maximum(x, 0)), y) for x, y in columns])


def reached(runs: Rows) -> float:
    """The largest KL, to a half, that every method has come to."""
    tops: dict[str, float] = {}
    for found in runs:
        kl = float(np.mean(found["kl"]))
        tops[found["method"]] = max(kl, tops.get(found["method"], 0.0))
    return min(0.5, *tops.values())
