"""What the experiment on RASD makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate
from experiments.speculative.rasd.setting import Config
from experiments.speculative.trees import gain, over_prompts

OWN = "RASD"


def table(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """(task, drafter) -> method -> its row."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["drafter"]), {})[row["method"]] = row
    return found


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring; intervals over prompts."""
    cells = table(rows)
    parents = ("retrieval", "EAGLE-2")
    found = [
        Claim.tested(
            "fused drafts are accepted longer than either parent's, at the same most nodes",
            "on every task",
            *(above(gain(m["RASD"], m[name]), "1x") for m in cells.values() for name in parents),
            measured="; ".join(
                f"{task}, {domain}: " + ", ".join(f"{n} {m[n]['MAT']:.2f}" for n in (*parents, OWN))
                for (task, domain), m in cells.items()
            ),
            headline=True,
        )
    ]
    if len(config.heads) > 1:
        near, far = config.heads

        def larger(task: str) -> Estimate:
            chosen = [cells[task, domain][n] for domain in (far, near) for n in (OWN, "EAGLE-2")]
            return over_prompts(lambda a, b, c, d: (a / b) / (c / d), *chosen)

        found.append(
            Claim.tested(
                "the gain over the drafter is larger where it is out of its domain",
                "on every task",
                *(above(larger(task), "1x") for task in config.tasks),
                measured="gains "
                + "; ".join(
                    f"{task}, {domain}: {gain(m[OWN], m['EAGLE-2'])}"
                    for (task, domain), m in cells.items()
                ),
            )
        )
    if config.ablations:
        for name, paper in (
            ("RASD, not pruned", "pruning matters"),
            ("RASD, not fused", "fusion matters"),
        ):
            chosen = [m[n] for m in cells.values() for n in (OWN, name)]
            found.append(
                Claim.tested(
                    f"{name.split(', ')[1]}, drafts are accepted less far on average",
                    paper,
                    above(over_prompts(_ahead, *chosen, unit="tokens"), "0 tokens"),
                )
            )
    same = float(np.mean([row["same_text"] for row in rows]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found


def _ahead(*rates: float) -> float:
    """Mean difference of pairs."""
    return float(np.mean(rates[::2]) - np.mean(rates[1::2]))
