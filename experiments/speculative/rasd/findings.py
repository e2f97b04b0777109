"""What the experiment on RASD makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.report import Claim
from experiments.speculative.rasd.setting import Config


def table(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """(task, drafter) -> method -> tokens a pass."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        found.setdefault((row["task"], row["drafter"]), {})[row["method"]] = row["MAT"]
    return found


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring."""
    cells = table(rows)

    def listed(*names: str) -> str:
        return "; ".join(
            f"{task}, {domain}: " + ", ".join(f"{name} {mats[name]:.2f}" for name in names)
            for (task, domain), mats in cells.items()
        )

    found = [
        Claim(
            "fused drafts are accepted longer than either parent's, at the same most nodes",
            "on every task",
            listed("retrieval", "EAGLE-2", "RASD"),
            all(m["RASD"] > max(m["retrieval"], m["EAGLE-2"]) for m in cells.values()),
        )
    ]
    if len(config.heads) > 1:
        gain = {key: mats["RASD"] / mats["EAGLE-2"] for key, mats in cells.items()}
        found.append(
            Claim(
                "the gain over the drafter is larger where it is out of its domain",
                "on every task",
                "; ".join(f"{task}, {domain}: {g:.2f}" for (task, domain), g in gain.items()),
                all(
                    gain[task, config.heads[1]] > gain[task, config.heads[0]]
                    for task in config.tasks
                ),
            )
        )
    if config.ablations:
        for name, paper in (
            ("RASD, not pruned", "pruning matters"),
            ("RASD, not fused", "fusion matters"),
        ):
            means = [float(np.mean([m[n] for m in cells.values()])) for n in ("RASD", name)]
            found.append(
                Claim(
                    f"{name.split(', ')[1]}, drafts are accepted less far on average",
                    paper,
                    f"{means[0]:.3f} against {means[1]:.3f}",
                    means[0] > means[1],
                )
            )
    same = float(np.mean([row["same_text"] for row in rows]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found
