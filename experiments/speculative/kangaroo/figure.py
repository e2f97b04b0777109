"""The figure of the experiment on Kangaroo."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.report import figure
from experiments.speculative.kangaroo.findings import of
from experiments.speculative.kangaroo.setting import Config


def draw(config: Config, rows: list[dict[str, Any]], confidence: dict[str, Any]) -> None:
    """CR and speed-up by exit and by threshold, and what confidence tells."""
    path = config.out and config.out / "figure.png"
    with figure(path, columns=3 if config.exits else 2, width=3.8) as axes:
        *first, middle, last = axes
        for axis in first:
            found = of(rows, "exit")
            exits = [row["layers"] for row in found]
            axis.plot(exits, [row["CR"] for row in found], label="tokens a round")
            axis.plot(exits, [row["speed_up"] for row in found], label="modelled speed-up")
            axis.set(xlabel="layers of the drafter", title="exit")
            axis.set_xticks(exits)
        for length in config.lengths:
            found = of(rows, "threshold", length=length)
            at = [row["threshold"] for row in found]
            middle.plot(at, [row["CR"] for row in found], label=f"tokens a round, {length}")
            middle.plot(at, [row["speed_up"] for row in found], label=f"speed-up, {length}")
        middle.set(xlabel="threshold", title="stopping (most drafts of a round)")
        middle.set_ylim(bottom=0)
        edges = np.linspace(0.05, 0.95, 10)
        for name, shift in (("accepted", -0.02), ("rejected", 0.02)):
            counts = np.array(confidence[name], float)
            last.bar(edges + shift, counts / max(counts.sum(), 1), width=0.04, label=name)
        last.set(xlabel="the drafter's top probability", ylabel="share", title="confidence")
