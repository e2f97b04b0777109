"""The figure: theory above, trained policies under the frontier below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.figures import MARKERS, PALETTE, figure


def draw(
    path: Path,
    rows: Sequence[dict[str, Any]],
    bounds: Mapping[str, tuple[NDArray, NDArray]],
    names: Sequence[str],
) -> None:
    """One column for each procedure: win rate against KL, analytic and trained."""
    with figure(path, columns=len(names), rows=2, width=4.4, height=3.5) as axes:
        for place, (name, bound) in enumerate(zip(names, bounds.values(), strict=True)):
            upper, lower = axes[place], axes[place + len(names)]
            analytic = [row for row in rows if row["part"] == "analytic" and name in row]
            trained = [row for row in rows if row["part"] == "trained"]
            first = place == 0  # the methods are named once
            plot(upper, analytic, name, bound, first)
            plot(lower, trained, name, bound, first)
            upper.set_title(f"analytic, {name}")
            lower.set_title(f"trained, {name}, by the reward")
            for axis, shown in ((upper, analytic), (lower, trained)):
                axis.set_xlabel("KL (nats)")
                axis.set_ylabel("win rate against the base")
                top = max([0.1, *(float(row["kl"]) for row in shown)])
                axis.set_xlim(0, 1.05 * top)
                axis.set_ylim(0.48, 1.02)
                if first:
                    axis.legend(fontsize=7, loc="lower right", ncols=2, handlelength=3)


def plot(
    axis: Axes,
    rows: Sequence[dict[str, Any]],
    name: str,
    bound: tuple[NDArray, NDArray],
    named: bool,
) -> None:
    """Every method's runs by KL from the base on, and the optimum."""
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "optimum"]
    for number, method in enumerate(methods):
        mine = sorted((row["kl"], row[name]) for row in rows if row["method"] == method)
        kl, win = np.array([(0.0, 0.5), *mine]).T
        axis.plot(
            kl,
            win,
            label=method if named else None,
            color=PALETTE[number % len(PALETTE)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle="-" if number < len(PALETTE) else "--",
        )
    axis.plot(*bound, color="black", linewidth=1, marker="", label="optimum" if named else None)
