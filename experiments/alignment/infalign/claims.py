"""The paper's claims, and how what was measured is held against them.

Intervals are 95 %, over tables or over held-out prompts, on which all methods are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.alignment.infalign.findings import (
    AT,
    DISTILLED,
    JUDGED,
    OTHERS,
    REJECTED,
    Rows,
    at_kl,
    estimated,
    frontiers,
    names,
    reached,
    resamples,
)
from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap, keyed, points

BEST, WORST = 8, 4  # points under best-of-N and worst-of-N, the least published


def claims(config: Any, evidence: Mapping[str, Rows]) -> list[Claim]:
    """By rules fixed before measuring, from what a record keeps."""
    runs, n, seed = evidence["trained"], config.n, config.seed
    stated = theory_claims(evidence["theory"], n)
    stated += frontier_claim(runs, frontiers(n, runs), seed)
    return stated + trained_claims(runs, n, seed) + hacked_claims(evidence["hacked"], seed)


def theory_claims(rows: Rows, n: int) -> list[Claim]:
    """What needs no training."""
    stated = []
    wanted = dict(zip(names(n), ("identity", "exp(10)", "-exp(-10)"), strict=True))
    for part, kl in AT.items():
        here = keyed((row for row in rows if row["part"] == part), "method")
        if not here or not all(name in here["identity"] for name in wanted):
            continue
        claim = (
            f"{part}, KL {kl:g}: the identity is best for one sample, exp(10) for best-of-{n}, "
            f"-exp(-10) for worst-of-{n}"
        )
        paper = "the transform must suit the procedure"
        told = "; ".join(f"{name}: {own} {here[own][name]:.3f}" for name, own in wanted.items())
        if part == "analytic":
            tops = {name: max(here, key=lambda method: here[method][name]) for name in wanted}
            stated.append(Claim(claim, paper, told, tops == wanted, sanity=True))
            continue
        leads = [_over_the_others(here, name, own) for name, own in wanted.items()]
        bars = [above(lead, "0 points") for lead in leads]
        stated.append(Claim.tested(claim, paper, *bars, measured=f"{told}; over the next best"))
        gains = [
            points(here[own]["each"][name], here["raw"]["each"][name])
            for name, own in wanted.items()
        ]
        stated.append(
            Claim.tested(
                f"{part}, KL {kl:g}: calibration mends a scale that differs by prompt",
                "calibrated rewards win more",
                *(above(gain, "0 points") for gain in gains),
                measured=f"over raw, {', '.join(wanted)}",
            )
        )
    spoilt = [row for row in rows if row["part"] == "hacked"]
    return stated + [
        spoilt_claim(spoilt, bonus, n) for bonus in dict.fromkeys(row["bonus"] for row in spoilt)
    ]


def _over_the_others(here: Mapping[str, Any], name: str, own: str) -> Estimate:
    """A method's lead over the best of the others, in points."""
    others = np.stack([here[m]["each"][name] for m in here if m != own], axis=1)

    def lead(mine: NDArray[np.float64], others: NDArray[np.float64]) -> float:
        return 100 * float(mine.mean() - others.mean(axis=0).max())

    return bootstrap(lead, here[own]["each"][name], others, unit="points")


def spoilt_claim(rows: Rows, bonus: float, n: int) -> Claim:
    """On tables, the standard win rate by the clean reward."""
    spoilt = keyed((row for row in rows if row["bonus"] == bonus), "method")
    mine, raw = spoilt["identity"], spoilt["raw"]
    return Claim.tested(
        f"hacked tables, KL 1, a spurious feature worth {bonus:g} standard deviations: calibration "
        "withstands it better than the raw reward",
        "calibration is more robust to reward hacking",
        above(points(mine["each"]["standard"], raw["each"]["standard"]), "0 points"),
        measured="identity : raw, "
        + ", ".join(f"{name} {mine[name]:.3f} : {raw[name]:.3f}" for name in names(n))
        + "; standard",
    )


def frontier_claim(
    runs: Rows, bounds: Mapping[str, tuple[NDArray, NDArray]], seed: int
) -> list[Claim]:
    """No policy above the optimum at its KL, by more than noise over all runs explains."""
    excess, where = -np.inf, ""
    for found in runs:
        index = resamples(len(found["kl"]), seed)
        for kind, (kls, wins) in bounds.items():
            if kind not in found:
                continue
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


def lead_claims(
    runs: Rows,
    mine: str,
    rivals: Sequence[str],
    kind: str,
    told_as: str,
    paper: str,
    seed: int,
    least: int = 0,
) -> list[Claim]:
    """One method ahead of every other at equal KL, by the reward and by the judge."""
    trained = {found["method"] for found in runs}
    rivals = [name for name in rivals if name in trained]
    if mine not in trained or not rivals:
        return []
    kl = reached([found for found in runs if found["method"] in (mine, *rivals)])
    count, stated = len(runs[0]["kl"]), []
    index = resamples(count, seed)
    more = f"{least} points and more above" if least else "more often than"
    for what, judge in ((kind, "the reward"), (f"{kind}, judge", "the judge")):
        found = at_kl(runs, mine, what, kl, index)
        gains = [estimated(found - at_kl(runs, name, what, kl, index), count) for name in rivals]
        stated.append(
            Claim.tested(
                f"{mine} wins {more} {', '.join(rivals)} at KL {kl:.2f}: {told_as} by {judge}",
                paper,
                *(above(gain, f"{least} points") for gain in gains),
                measured=f"{found[0]:.3f}; over {', '.join(rivals)}",
                headline=(mine, judge, rivals[0]) == ("exp(10)", "the reward", "raw"),
            )
        )
    return stated


def trained_claims(runs: Rows, n: int, seed: int) -> list[Claim]:
    """The matched transform against every other method, at equal KL."""
    stated = []
    for kind, name, paper, least in (
        ("best", f"best-of-{n}", "8-12 %", BEST),
        ("worst", f"worst-of-{n}", "4-9 %", WORST),
    ):
        for rivals in (DISTILLED, OTHERS):
            stated += lead_claims(runs, JUDGED[kind][0], rivals, kind, name, paper, seed, least)
    stated += lead_claims(
        runs, "identity", ("raw",), "standard", "standard", "at least as good", seed
    )
    judged = [found for found in runs if "rejection" in found]
    return stated + lead_claims(
        judged,
        REJECTED[0],
        REJECTED[1:],
        "rejection",
        "speculative rejection",
        "beyond the paper: a procedure known by its samples alone",
        seed,
    )


def hacked_claims(runs: Rows, seed: int) -> list[Claim]:
    """Policies trained by a reward that likes spurious words, as the clean judge sees them."""
    if not runs:
        return []
    kl, count = reached(runs), len(runs[0]["kl"])
    index = resamples(count, seed)
    raw, mine = (at_kl(runs, name, "standard, judge", kl, index) for name in ("raw", "identity"))
    own = at_kl(runs, "raw", "standard", kl, index)
    return [
        Claim.tested(
            f"hacked reward, KL {kl:.2f}: the raw reward's policy wins less often by the judge "
            "than by its own reward",
            "a learned reward is over-optimised",
            above(estimated(own - raw, count), "0 points"),
            measured=f"{raw[0]:.3f} by the judge, {own[0]:.3f} by its own reward",
        ),
        Claim.tested(
            f"hacked reward, KL {kl:.2f}: the calibrated reward's policy wins more often by the "
            "judge than the raw reward's",
            "calibration is more robust to reward hacking",
            above(estimated(mine - raw, count), "0 points"),
            measured=f"{mine[0]:.3f} : {raw[0]:.3f}",
        ),
    ]
