"""What the experiment on Kangaroo makes of its measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap
from experiments.speculative.kangaroo.setting import Config
from experiments.speculative.trees import over_prompts, rises

BEST = (0.6, 0.7)  # thresholds, as published
APART = 0.2  # of confidence


def of(rows: list[dict[str, Any]], study: str, **fixed: Any) -> list[dict[str, Any]]:
    """The rows of a study."""
    wanted = {"study": study} | fixed
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """By rules fixed before measuring; intervals over prompts."""
    rows, confidence = evidence["rows"], evidence["confidence"]
    found = []
    exits = of(rows, "exit")
    if exits:
        found += _exits(config, exits)
    for length in config.lengths[:1]:
        found += _thresholds(of(rows, "threshold", length=length))
    variants = of(rows, "variant")
    own = [row for row in exits if row["layers"] == config.variant_exit]
    if variants and own:
        named = [("adapter", own[0]), *((row["drafter"], row) for row in variants)]
        found.append(
            Claim.tested(
                "attention alone is the best adapter by modelled speed-up",
                "1.50 against 1.37 (full layer) and 1.22 (MLP)",
                above(_speeds(lambda mine, *others: mine / max(others), own + variants), "1x"),
                measured=", ".join(f"{name} {row['speed_up']:.2f}" for name, row in named)
                + "; over the best of the others",
            )
        )
    agreeing, other = confidence["means"]
    found.append(
        Claim.tested(
            f"confidence tells what will be accepted, by {APART}",
            "the accepted mass lies near 1",
            above(bootstrap(_apart, *confidence["by text"].values()), f"{APART}"),
            measured=f"mean top probability {agreeing:.2f} where the target agrees, {other:.2f} "
            "elsewhere",
        )
    )
    same = float(np.mean([row["same_text"] for row in rows]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found


def _speeds(statistic: Callable[..., float], rows: list[dict[str, Any]]) -> Estimate:
    """A statistic of modelled speed-ups."""
    costs = [row["draft_cost"] for row in rows]
    return over_prompts(statistic, *rows, cost=costs, of="drafted")


def _exits(config: Config, exits: list[dict[str, Any]]) -> list[Claim]:
    def between(*speeds: float) -> float:
        return max(speeds[1:-1]) / max(speeds[0], speeds[-1])

    stated = [
        Claim.tested(
            "a deeper exit yields more tokens a round",
            "1.4, 2.0, 2.3, 2.6, 3.4 at 0, 2, 4, 8, 16 of 32 layers",
            *(above(step, "1x") for step in rises(exits)),
            measured=", ".join(f"{row['layers']}: {row['CR']:.2f}" for row in exits),
        )
    ]
    if len(exits) > 2:
        stated.append(
            Claim.tested(
                "the modelled speed-up is best at an exit in between",
                "2 of 32 layers, 1.50 times",
                above(_speeds(between, exits), "1x"),
                measured=", ".join(f"{row['layers']}: {row['speed_up']:.2f}" for row in exits)
                + "; the best in between over the better end",
                headline=True,
            )
        )
    return stated


def _thresholds(swept: list[dict[str, Any]]) -> list[Claim]:
    bars = [row["threshold"] for row in swept]
    good = [low <= bar <= high for bar in bars for low, high in [BEST]]
    stated = [
        Claim.tested(
            "a higher threshold yields fewer tokens a round",
            "CR falls throughout",
            *(above(step, "1x") for step in rises(swept[::-1])),
            measured=f"CR {swept[0]['CR']:.2f} to {swept[-1]['CR']:.2f}; steps from the highest on",
        )
    ]
    if any(good) and not all(good):

        def best(*speeds: float) -> float:
            inside = [speed for speed, there in zip(speeds, good, strict=True) if there]
            outside = [speed for speed, there in zip(speeds, good, strict=True) if not there]
            return max(inside) / max(outside)

        stated.append(
            Claim.tested(
                f"the best threshold lies from {BEST[0]} to {BEST[1]}",
                "best at 0.6 to 0.7",
                above(_speeds(best, swept), "1x"),
                measured=", ".join(f"{row['threshold']}: {row['speed_up']:.2f}" for row in swept)
                + "; the best there over the best elsewhere",
            )
        )
    return stated


def _apart(sure: np.ndarray, agreed: np.ndarray, unsure: np.ndarray, other: np.ndarray) -> float:
    """Mean confidence where the target agrees, above that where it does not."""
    return float(sure.sum() / max(agreed.sum(), 1) - unsure.sum() / max(other.sum(), 1))
