"""Measured and modelled speed-ups: a panel for each task and batch, or all groups in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.figures import figure

WIDE = 4  # panels; more are drawn as one table of colours


def draw(path: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    """Draw, if there is a place for it."""
    panels = list(dict.fromkeys((row["task"], row["batch"]) for row in rows))
    (bars if len(panels) <= WIDE else table)(path, rows, panels)


def bars(path: Path | None, rows: Sequence[dict[str, Any]], panels: list[tuple[str, int]]) -> None:
    """One panel a race; diamonds are what counts and costs alone would give."""
    with figure(path, columns=len(panels), width=4.0, height=5.6) as axes:
        for axis, (task, batch) in zip(axes, panels, strict=True):
            some = [r for r in rows if (r["task"], r["batch"]) == (task, batch)]
            some.sort(key=lambda row: row["speed_up"])
            names = [row["method"] for row in some]
            colors = ["#999999" if row["kind"] in ("", "peer") else "#0072B2" for row in some]
            axis.barh(names, [row["speed_up"] for row in some], color=colors)
            marks = [(row["modelled"], row["method"]) for row in some if "modelled" in row]
            if marks:
                axis.plot(*zip(*marks, strict=True), "D", color="#D55E00", label="modelled")
                axis.legend(loc="lower right")
            axis.axvline(1.0, color="black", linewidth=0.8)
            axis.set(xlabel="times plain decoding", title=f"{task}, batch {batch}")


def table(path: Path | None, rows: Sequence[dict[str, Any]], panels: list[tuple[str, int]]) -> None:
    """Methods by groups, each cell the times of plain decoding; green above, red below."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["method"], row["task"], row["batch"]): row["speed_up"] for row in rows}
    gains = np.array([[found.get((m, *panel), np.nan) for panel in panels] for m in methods])
    with figure(
        path, columns=1, width=1.6 + 0.95 * len(panels), height=1.2 + 0.4 * len(methods)
    ) as (axis,):
        axis.grid(False)
        axis.imshow(np.log2(gains), cmap="RdYlGn", vmin=-1.5, vmax=1.5, aspect="auto")
        axis.set_xticks(range(len(panels)), [task for task, _ in panels], rotation=30, ha="right")
        axis.set_yticks(range(len(methods)), methods)
        for (y, x), gain in np.ndenumerate(gains):
            axis.text(x, y, f"{gain:.2f}", ha="center", va="center")
        axis.set_title("times plain decoding, batch 1")
