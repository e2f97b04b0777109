"""What the experiment on Clover makes of its measurements."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, keyed
from experiments.speculative.clover.setting import ORDER, Config
from experiments.speculative.trees import over_prompts

MORE = 1.5  # times, the least of the published


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
        size: [of(rows, "size", kind=kind, size=size)[0] for kind in ("none", "clover")]
        for size in config.sizes
    }
    found.append(
        Claim.tested(
            f"Clover yields {MORE} times the extra tokens a step of Medusa with the same trees",
            "50 to 76 % more",
            *(above(over_prompts(times_more, *pair), f"{MORE}x") for pair in pairs.values()),
            measured=", ".join(
                f"{size}: {own['extra']:.2f} against {medusa['extra']:.2f}"
                for size, (medusa, own) in pairs.items()
            ),
            headline=True,
        )
    )
    if len(config.sizes) > 2:
        found.append(_slower(config, [own for _, own in pairs.values()]))
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


def extra(tokens: float) -> float:
    """Tokens a step beyond the target's own; next to none counts as a thousandth."""
    return max(tokens - 1, 1e-3)


def times_more(medusa: float, own: float) -> float:
    """Extra tokens of Clover over those of Medusa."""
    return extra(own) / extra(medusa)


def _slower(config: Config, grown: list[dict[str, Any]]) -> Claim:
    """Every step up, and each slope by nodes below the one before."""
    sizes = np.array(config.sizes, float)

    def step(smaller: float, larger: float) -> float:
        return larger - smaller

    def bend(place: int) -> Estimate:
        """The slope up to a size, above that behind it."""
        near = np.diff(sizes[place - 1 : place + 2])

        def lost(*rates: float) -> float:
            first, second = np.diff(rates) / near
            return float(first - second)

        return over_prompts(lost, *grown[place - 1 : place + 2], unit=unit)

    unit = "tokens"
    return Claim.tested(
        "extra tokens grow with the tree, ever more slowly",
        "about linear in the logarithm of its size",
        *(above(over_prompts(step, *pair, unit=unit), f"0 {unit}") for pair in pairwise(grown)),
        *(above(bend(place), f"0 {unit}") for place in range(1, len(grown) - 1)),
        measured=", ".join(
            f"{size}: {row['extra']:.2f}" for size, row in zip(config.sizes, grown, strict=True)
        )
        + "; steps, then losses of slope",
    )
