"""The figure of the experiment on S2D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.report import figure
from experiments.speculative.s2d.setting import Config


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Speed-ups by target, and where S2D's tokens leave."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    rows = [row for row in rows if "speed-up" in row and row["T"] == config.temperatures[0]]
    ways, targets = (list(dict.fromkeys(row[k] for row in rows)) for k in ("way", "target"))
    with figure(path, columns=2, width=5.2, height=3.6) as (left, right):
        width = 0.8 / len(ways)
        for place, way in enumerate(ways):
            values = [row["speed-up"] for row in rows if row["way"] == way]
            hatch = "//" if way.startswith("SFT") else ".." if way.startswith("S2D") else ""
            at = np.arange(len(targets)) + width * (place - (len(ways) - 1) / 2)
            left.bar(at, values, width, label=way, hatch=hatch, edgecolor="white")
        left.set_xticks(range(len(targets)), targets)
        left.set(ylabel="modelled speed-up", xlabel="target")
        left.legend(ncols=3, fontsize="x-small", loc="upper center")
        left.set_ylim(0, 1.35 * max(row["speed-up"] for row in rows))  # room for the legend
        left.axhline(1.0, color="0.4", lw=0.8, marker="")
        own = [r for r in rows if r["way"].startswith("S2D") and r["target"] == targets[-1]]
        bottom = np.zeros(len(own))
        for place, exit in enumerate(config.exits):
            share = np.array([row["exits"][place] for row in own])
            right.bar([r["way"][5:] for r in own], share, bottom=bottom, label=f"{exit} layers")
            bottom += share
        right.set(ylabel="draft tokens that leave there", xlabel="thresholds of S2D")
        right.set_ylim(0, 1.2)
        right.legend(ncols=len(config.exits), loc="upper center")
