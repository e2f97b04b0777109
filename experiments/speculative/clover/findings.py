"""What the experiment on Clover makes of its measurements."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from experiments.harness.report import Claim
from experiments.harness.statistics import keyed
from experiments.speculative.clover.setting import ORDER, Config


def of(rows: list[dict[str, Any]], study: str, **fixed: Any) -> list[dict[str, Any]]:
    """The rows of a study."""
    wanted = {"study": study} | fixed
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring."""
    found = []
    there = [kind for kind in ORDER if kind in config.kinds]
    if len(there) > 1:
        top = {kind: [r["top5"] for r in of(rows, "accuracy", kind=kind)] for kind in there}
        means = {kind: float(np.mean(values)) for kind, values in top.items()}
        found.append(
            Claim(
                "top-5 accuracy over all heads rises with each addition",
                "block, connection and decoder together give 11.7 to 26.4 points",
                ", ".join(f"{kind} {value:.3f}" for kind, value in means.items()),
                all(a < b for a, b in pairwise(means.values())),
            )
        )
        gain = [b - a for a, b in zip(top[there[0]], top[there[-1]], strict=True)]
        found.append(
            Claim(
                "the gain over Medusa grows with the place a head guesses",
                "11.7, 20.3, 26.4 points",
                ", ".join(f"{100 * value:+.1f}" for value in gain),
                all(a < b for a, b in pairwise(gain)),
            )
        )
    pairs = {
        size: [of(rows, "size", kind=kind, size=size)[0]["extra"] for kind in ("none", "clover")]
        for size in config.sizes
    }
    found.append(
        Claim(
            "Clover yields more extra tokens a step than Medusa with the same trees",
            "50 to 76 % more",
            ", ".join(f"{size}: {b:.2f} against {a:.2f}" for size, (a, b) in pairs.items()),
            all(b > a for a, b in pairs.values()),
            headline=True,
        )
    )
    if len(config.sizes) > 1:
        grows = [extra for _, extra in pairs.values()]
        found.append(
            Claim(
                "extra tokens grow with the tree, ever more slowly",
                "about linear in the logarithm of its size",
                ", ".join(f"{size}: {extra:.2f}" for size, (_, extra) in pairs.items()),
                all(a < b for a, b in pairwise(grows)),
            )
        )
    if len(config.batches) > 1:
        speeds = keyed(of(rows, "batch", kind="clover"), "batch", value="speed_up")
        found.append(
            Claim(
                "what speculation gains shrinks as the batch grows",
                "1.91 times at batch 4, below 1 at batch 32 to 48 (7B)",
                ", ".join(f"{batch}: {value:.2f}" for batch, value in speeds.items()),
                speeds[config.batches[-1]] < speeds[config.batches[0]],
            )
        )
    same = float(np.mean([row["same_text"] for row in of(rows, "size")]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found
