"""What the experiment on Kangaroo makes of its measurements."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from experiments.harness.report import Claim
from experiments.harness.statistics import keyed
from experiments.speculative.kangaroo.setting import Config


def of(rows: list[dict[str, Any]], study: str, **fixed: Any) -> list[dict[str, Any]]:
    """The rows of a study."""
    wanted = {"study": study} | fixed
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def claims(config: Config, rows: list[dict[str, Any]], confidence: dict[str, Any]) -> list[Claim]:
    """By rules fixed before measuring."""
    found = []
    exits = of(rows, "exit")
    if exits:
        rate = [row["CR"] for row in exits]
        speeds = keyed(exits, "layers", value="speed_up")
        best = max(speeds, key=lambda exit: speeds[exit])
        shown = ", ".join(f"{row['layers']}: {row['CR']:.2f}" for row in exits)
        paper = "1.4, 2.0, 2.3, 2.6, 3.4 at 0, 2, 4, 8, 16 of 32 layers"
        risen = all(b > a for a, b in pairwise(rate))
        found.append(Claim("a deeper exit yields more tokens a round", paper, shown, risen))
        found.append(
            Claim(
                "the modelled speed-up is best at an exit in between",
                "2 of 32 layers, 1.50 times",
                ", ".join(f"{exit}: {value:.2f}" for exit, value in speeds.items()),
                best not in (config.exits[0], config.exits[-1]),
                headline=True,
            )
        )
    for length in config.lengths[:1]:
        swept = of(rows, "threshold", length=length)
        rate = [row["CR"] for row in swept]
        speeds = keyed(swept, "threshold", value="speed_up")
        best = max(speeds, key=lambda threshold: speeds[threshold])
        found.append(
            Claim(
                "a higher threshold yields fewer tokens a round, and a better speed-up than none",
                "CR falls throughout; best at 0.6 to 0.7",
                f"CR {rate[0]:.2f} to {rate[-1]:.2f}; best {speeds[best]:.2f} at {best}, "
                f"{speeds[swept[0]['threshold']]:.2f} at {swept[0]['threshold']}",
                all(b <= a + 1e-9 for a, b in pairwise(rate)) and best > swept[0]["threshold"],
            )
        )
    variants = keyed(of(rows, "variant"), "drafter", value="speed_up")
    own = [row["speed_up"] for row in exits if row["layers"] == config.variant_exit]
    if variants and own:
        found.append(
            Claim(
                "attention alone is the best adapter by modelled speed-up",
                "1.50 against 1.37 (full layer) and 1.22 (MLP)",
                ", ".join(f"{k} {v:.2f}" for k, v in ({"adapter": own[0]} | variants).items()),
                own[0] > max(variants.values()),
            )
        )
    agreeing, other = confidence["means"]
    found.append(
        Claim(
            "confidence tells what will be accepted",
            "the accepted mass lies near 1",
            f"mean top probability {agreeing:.2f} where the target agrees, {other:.2f} elsewhere",
            agreeing > other + 0.2,
        )
    )
    same = float(np.mean([row["same_text"] for row in rows]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found
