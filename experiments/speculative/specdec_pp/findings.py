"""What the experiment on SpecDec++ makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.report import Claim
from experiments.speculative.specdec_pp.setting import BEST, Config


def family(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["family"] == name]


def below(rows: list[dict[str, Any]]) -> list[float]:
    """How far each SpecDec++ point lies below the curve of fixed lengths, in discarded tokens
    for each emitted one; points beside the curve do not count."""
    fixed = sorted(family(rows, "fixed"), key=lambda row: row["verification"])
    x, y = ([row[name] for row in fixed] for name in ("verification", "discard"))
    return [
        float(np.interp(row["verification"], x, y) - row["discard"])
        for row in family(rows, "SpecDec++")
        if x[0] <= row["verification"] <= x[-1]
    ]


def fastest(rows: list[dict[str, Any]], name: str, ratio: float) -> dict[str, Any]:
    return max(family(rows, name), key=lambda row: row[f"speed-up at {ratio:g}"])


def claims(config: Config, rows, greedy: dict[str, Any], head: dict[str, Any]) -> list[Claim]:
    """The paper's, by rules fixed before measuring."""
    gaps = below(rows)
    gains, shared = {}, {}
    for ratio in config.ratios:
        key = f"speed-up at {ratio:g}"
        best = fastest(rows, "fixed", ratio)[key]
        gains[ratio] = fastest(rows, "SpecDec++", ratio)[key] / best - 1
        one = min(family(rows, "SpecDec++"), key=lambda row: abs(float(row["rule"][10:]) - BEST))
        shared[ratio] = one[key] / best - 1
    return [
        Claim(
            "fewer tokens are discarded than by fixed lengths, at any rate of verification",
            "all points below the curve",
            f"{sum(gap > 0 for gap in gaps)} of {len(gaps)} points below, by "
            f"{np.mean(gaps) if gaps else 0:.3f} on average",
            bool(gaps) and all(gap > 0 for gap in gaps),
        ),
        Claim(
            "the best threshold is faster than the best fixed length, at every ratio of speeds",
            "+7.2 % to +11.1 %",
            ", ".join(f"{100 * gain:+.1f} % at {ratio:g}" for ratio, gain in gains.items()),
            all(gain > 0 for gain in gains.values()),
            headline=True,
        ),
        Claim(
            f"so is one threshold (h = {BEST}) for all",
            "within 1 % of the best",
            ", ".join(f"{100 * gain:+.1f} % at {ratio:g}" for ratio, gain in shared.items()),
            all(gain > 0 for gain in shared.values()),
        ),
        Claim(
            "hindsight leaves much to gain (greedy decoding)",
            "2.92x against 1.90x of the best fixed length",
            f"{greedy['hindsight']:.2f}x against {greedy['best fixed']:.2f}x "
            f"(K = {greedy['best length']}), a target pass being {greedy['ratio']:g} draft passes",
            greedy["hindsight"] > 1.2 * greedy["best fixed"] and greedy["discard"] == 0,
        ),
        Claim(
            "the head's predictions are those of a calibrated classifier (w = 1)",
            "a head of a few layers suffices",
            f"calibration error {head['calibration error']:.3f}, predictions spread by "
            f"{head['spread']:.2f}",
            head["calibration error"] < 0.06 and head["spread"] > 0.05,
        ),
    ]
