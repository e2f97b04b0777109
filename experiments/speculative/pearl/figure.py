"""The figure of the experiment on PEARL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from algorithms.speculative.pearl import Clock, best_in_turn, speed_up
from experiments.harness.report import figure
from experiments.speculative.pearl.setting import Config


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Speed-up by window, and by acceptance with the closed forms."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    with figure(path, columns=2, width=4.6, height=3.6) as (left, right):
        good = rows[-1]["draft"]
        for row in (row for row in rows if row["draft"] == good):
            line = left.plot(*zip(*row["windows"], strict=True), label=f"c = {row['c']}")[0]
            left.axvline(row["c"], color=line.get_color(), alpha=0.4, ls=":", marker="")
        left.set(xlabel="window", ylabel="modelled speed-up", title=f"draft: {good}")
        left.legend(loc="upper left")
        grid = np.linspace(0.3, 0.97, 60)
        for place, ratio in enumerate(config.ratios):
            colour, clock = f"C{place}", Clock(ratio)
            own = [row for row in rows if row["c"] == ratio]
            x = [row["acceptance"] for row in own]
            plain = [best_in_turn(a, clock)[1] for a in grid]
            beside = [speed_up(a, ratio, clock) for a in grid]
            right.plot(grid, beside, color=colour, marker="", label=f"PEARL, c = {ratio}")
            right.plot(grid, plain, color=colour, marker="", ls="--", label=f"SD, c = {ratio}")
            right.plot(x, [row["PEARL"] for row in own], "o", color=colour)
            right.plot(x, [row["SD"] for row in own], "s", mfc="none", color=colour)
        right.set(xlabel="acceptance", ylabel="modelled speed-up", title="lines: closed forms")
