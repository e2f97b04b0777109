"""The paper's claims, and how what was measured is held against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms.alignment.procedures import BestOf, Procedure, Single, WorstOf
from experiments.harness.report import Claim
from experiments.harness.statistics import keyed

DRAWS = 1000  # of the bootstrap
DISTILLED = ("raw", "BOND", "BoNBoN", "SFT")  # the uncalibrated reward, and distillation
OTHERS = ("IPO", "DPO", "GRPO")
KINDS = ("standard", "best", "worst")


def kinds(n: int) -> tuple[Procedure, Procedure, Procedure]:
    return Single(), BestOf(n), WorstOf(n)


def names(n: int) -> tuple[str, str, str]:
    return "standard", f"best-of-{n}", f"worst-of-{n}"


def theory_claims(rows: Sequence[dict[str, Any]], n: int) -> list[Claim]:
    """What needs no training."""
    stated = []
    wanted = {"standard": "identity", f"best-of-{n}": "exp(10)", f"worst-of-{n}": "-exp(-10)"}
    for part, kl in (("analytic", 0.5), ("tables", 1.0)):
        here = [row for row in rows if row["part"] == part and row["kl"] == kl]
        given = [row for row in here if row["method"] != "optimum"]
        if not all(name in given[0] for name in wanted):
            continue
        tops = {name: max(given, key=lambda row, name=name: row[name]) for name in wanted}
        stated.append(
            Claim(
                f"{part}, KL {kl:g}: the identity is best for one sample, exp(10) for best-of-{n}, "
                f"-exp(-10) for worst-of-{n}",
                "the transform must suit the procedure",
                "; ".join(f"{name}: {row['method']} {row[name]:.3f}" for name, row in tops.items()),
                all(tops[name]["method"] == method for name, method in wanted.items()),
            )
        )
        raw = [row for row in here if row["method"] == "raw"]
        if raw:
            gains = {name: tops[name][name] - raw[0][name] for name in wanted}
            stated.append(
                Claim(
                    f"{part}, KL {kl:g}: calibration mends a scale that differs by prompt",
                    "calibrated rewards win more",
                    ", ".join(f"{name} {gain:+.3f} over raw" for name, gain in gains.items()),
                    all(gain > 0 for gain in gains.values()),
                )
            )
    return stated + [
        spoilt_claim(rows, bonus, n)
        for bonus in dict.fromkeys(row["bonus"] for row in rows if row["part"] == "hacked")
    ]


def spoilt_claim(rows: Sequence[dict[str, Any]], bonus: float, n: int) -> Claim:
    """On tables, the standard win rate by the clean reward."""
    spoilt = keyed(
        (row for row in rows if row["part"] == "hacked" and row["bonus"] == bonus), "method"
    )
    lead, error = spoilt["identity"]["lead"], spoilt["identity"]["lead error"]
    return Claim(
        f"hacked tables, KL 1, a spurious feature worth {bonus:g} standard deviations: calibration "
        "withstands it better than the raw reward",
        "calibration is more robust to reward hacking",
        f"identity {100 * lead:+.2f} points over raw (standard error {100 * error:.2f}); "
        + ", ".join(
            f"{name} {spoilt['identity'][name]:.3f} : {spoilt['raw'][name]:.3f}"
            for name in names(n)
        ),
        bool(lead > 1.96 * error),
    )


def frontier_claim(
    runs: Sequence[dict[str, Any]], bounds: Mapping[str, tuple[NDArray, NDArray]], seed: int
) -> list[Claim]:
    """No policy above the optimum at its KL, by more than noise over all runs explains."""
    excess, where = -np.inf, ""
    for found in runs:
        index = resamples(len(found["kl"]), seed)
        for kind, (kls, wins) in bounds.items():
            win = np.array(found[kind])[index].mean(axis=1)
            over = win - np.interp(np.array(found["kl"])[index].mean(axis=1), kls, wins)
            least = float(np.quantile(over, 0.001))  # many runs are looked at
            if least > excess:
                excess, where = least, f"{found['method']} at {found['aim']:g}, {kind}"
    return [
        Claim(
            "no trained policy lies above the analytic frontier beyond noise",
            "the optimum, by theory",
            f"largest lower bound of an excess {excess:+.3f} ({where})",
            bool(excess <= 0),
            sanity=True,
        )
    ]


def resamples(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(count, size=(DRAWS, count))


def at_kl(
    runs: Sequence[dict[str, Any]], method: str, what: str, kl: float, index: NDArray
) -> NDArray[np.float64]:
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


def reached(runs: Sequence[dict[str, Any]]) -> float:
    """The largest KL, to a half, that every method has come to."""
    tops: dict[str, float] = {}
    for found in runs:
        kl = float(np.mean(found["kl"]))
        tops[found["method"]] = max(kl, tops.get(found["method"], 0.0))
    return min(0.5, *tops.values())


def lead_claims(
    runs: Sequence[dict[str, Any]],
    mine: str,
    rivals: Sequence[str],
    kind: str,
    told_as: str,
    paper: str,
    seed: int,
) -> list[Claim]:
    """One method ahead of every other at equal KL, by the reward and by the judge."""
    trained = {found["method"] for found in runs}
    rivals = [name for name in rivals if name in trained]
    if mine not in trained or not rivals:
        return []
    kl = reached([found for found in runs if found["method"] in (mine, *rivals)])
    index, stated = resamples(len(runs[0]["kl"]), seed), []
    for what, judge in ((kind, "the reward"), (f"{kind}, judge", "the judge")):
        found = at_kl(runs, mine, what, kl, index)
        gains = {other: found - at_kl(runs, other, what, kl, index) for other in rivals}
        told = [
            f"{100 * gain.mean():+.1f} over {other} "
            f"({100 * np.quantile(gain, 0.025):+.1f}..{100 * np.quantile(gain, 0.975):+.1f})"
            for other, gain in gains.items()
        ]
        stated.append(
            Claim(
                f"{mine} wins more often than {', '.join(rivals)} at KL {kl:.2f}: {told_as} by "
                f"{judge}",
                paper,
                f"{found.mean():.3f}; in points {', '.join(told)}",
                all(float(np.quantile(gain, 0.025)) > 0 for gain in gains.values()),
                _weakest(gains),
                0.0,
                headline=(mine, judge, rivals[0]) == ("exp(10)", "the reward", "raw"),
            )
        )
    return stated


def _weakest(gains: Mapping[str, NDArray]) -> tuple[float, float]:
    """The interval, in points, of the lead that ends lowest if one is lost, else begins lowest."""
    intervals = [np.quantile(100 * gain, (0.025, 0.975)) for gain in gains.values()]
    lost = [interval for interval in intervals if interval[1] < 0]
    low, high = min(lost, key=lambda x: x[1]) if lost else min(intervals, key=lambda x: x[0])
    return float(low), float(high)


def trained_claims(runs: Sequence[dict[str, Any]], n: int, seed: int) -> list[Claim]:
    """The matched transform against every other method, at equal KL."""
    stated = []
    for mine, kind, name, paper in (
        ("exp(10)", "best", f"best-of-{n}", "8-12 %"),
        ("-exp(-10)", "worst", f"worst-of-{n}", "4-9 %"),
    ):
        for rivals in (DISTILLED, OTHERS):
            stated += lead_claims(runs, mine, rivals, kind, name, paper, seed)
    stated += lead_claims(
        runs, "identity", ("raw",), "standard", "standard", "at least as good", seed
    )
    judged = [found for found in runs if "rejection" in found]
    return stated + lead_claims(
        judged,
        "rejection optimum",
        ("raw", "BoNBoN"),
        "rejection",
        "speculative rejection",
        "beyond the paper: a procedure known by its samples alone",
        seed,
    )


def hacked_claims(runs: Sequence[dict[str, Any]], seed: int) -> list[Claim]:
    """Policies trained by a reward that likes spurious words, as the clean judge sees them."""
    if not runs:
        return []
    kl, index = reached(runs), resamples(len(runs[0]["kl"]), seed)
    raw, mine = (at_kl(runs, name, "standard, judge", kl, index) for name in ("raw", "identity"))
    own = at_kl(runs, "raw", "standard", kl, index)
    gain, gap = mine - raw, own - raw
    low, high = np.quantile(gain, 0.025), np.quantile(gain, 0.975)
    return [
        Claim(
            f"hacked reward, KL {kl:.2f}: the raw reward's policy wins less often by the judge "
            "than by its own reward",
            "a learned reward is over-optimised",
            f"{raw.mean():.3f} by the judge, {own.mean():.3f} by its own reward "
            f"(gap {100 * np.quantile(gap, 0.025):+.1f}..{100 * np.quantile(gap, 0.975):+.1f})",
            bool(np.quantile(gap, 0.025) > 0),
            (float(100 * np.quantile(gap, 0.025)), float(100 * np.quantile(gap, 0.975))),
            0.0,
        ),
        Claim(
            f"hacked reward, KL {kl:.2f}: the calibrated reward's policy wins more often by the "
            "judge than the raw reward's",
            "calibration is more robust to reward hacking",
            f"{mine.mean():.3f} : {raw.mean():.3f}, {100 * gain.mean():+.1f} points "
            f"({100 * low:+.1f}..{100 * high:+.1f})",
            bool(low > 0),
            (float(100 * low), float(100 * high)),
            0.0,
        ),
    ]
