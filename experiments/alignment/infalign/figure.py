"""The figure: theory above, trained policies under the frontier below; at the right what a hacked
reward does, and the decoder that is known by its samples alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.harness.figures import MARKERS, PALETTE, figure

Rows = Sequence[dict[str, Any]]
Curve = tuple[NDArray, NDArray]
LINES = ("-", "--", ":")
COLORS = PALETTE[:-1]  # black is the optimum's


def draw(
    path: Path,
    rows: Rows,
    bounds: Mapping[str, Curve],
    names: Sequence[str],
    rejection: Sequence[NDArray] | None,
) -> None:
    """One column for each procedure: win rate against KL, analytic and trained."""
    styles = styles_of(rows)
    spoilt = [row for row in rows if row["part"] == "hacked reward"]
    trained = [row for row in rows if row["part"] == "trained"]
    analytic = [row for row in rows if row["part"] == "analytic"]
    wide = len(names) + (1 if spoilt or rejection is not None else 0)
    with figure(path, columns=wide, rows=2, width=4.2, height=3.6) as axes:
        for place, (name, bound) in enumerate(zip(names, bounds.values(), strict=True)):
            upper, lower = axes[place], axes[place + wide]
            plot(upper, [row for row in analytic if name in row], name, bound, styles)
            plot(lower, trained, name, bound, styles)
            upper.set_title(f"analytic, {name}")
            lower.set_title(f"trained, {name}, by the reward")
        for axis in (axes[0], axes[wide]):  # the methods are named once
            axis.legend(fontsize=6.5, loc="lower right", ncols=2, handlelength=2.6)
        for axis in [*axes[1 : len(names)], *axes[wide + 1 : wide + len(names)]]:
            for line in axis.lines:
                line.set_label("")
        if spoilt:
            hacking(axes[wide - 1], spoilt)
        if rejection is not None:
            name, (kls, wins) = "speculative rejection", rejection
            shown = [row for row in trained if name in row]
            plot(axes[-1], shown, name, (kls, wins), styles)
            axes[-1].set_title(f"trained, {name}, by the reward")
            axes[-1].legend(fontsize=6.5, loc="lower right")
        for axis in axes:
            if not axis.has_data():
                axis.set_axis_off()


def styles_of(rows: Rows) -> dict[str, dict[str, Any]]:
    """Every method's look, the same in all panels."""
    methods = [row["method"] for row in rows if row["part"] in ("trained", "analytic")]
    shown = [name for name in dict.fromkeys(methods) if name != "optimum"]
    return {
        name: {
            "color": COLORS[number % len(COLORS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINES[number // len(COLORS) % len(LINES)],
        }
        for number, name in enumerate(shown)
    }


def plot(
    axis: Axes, rows: Rows, name: str, bound: Curve, styles: Mapping[str, dict[str, Any]]
) -> None:
    """Every method's runs by KL from the base on, and the optimum."""
    for method in dict.fromkeys(row["method"] for row in rows):
        if method != "optimum":
            axis.plot(*by_kl(rows, method, name), label=method, **styles[method])
    axis.plot(*bound, color="black", linewidth=1, marker="", label="optimum")
    framed(axis, rows)


def by_kl(rows: Rows, method: str, name: str) -> NDArray:
    """(KL, win rate) of a method's runs, from the base on."""
    mine = sorted((row["kl"], row[name]) for row in rows if row["method"] == method)
    return np.array([(0.0, 0.5), *mine]).T


def hacking(axis: Axes, rows: Rows) -> None:
    """The standard win rate by the reward that is trained on, and by the judge."""
    for color, method in zip(PALETTE, ("raw", "identity"), strict=False):
        for line, name, judge in (
            ("--", "standard", "its own reward"),
            ("-", "standard, judge", "the judge"),
        ):
            kl, win = by_kl(rows, method, name)
            axis.plot(kl, win, line, color=color, marker="o", label=f"{method}, by {judge}")
    axis.set_title("trained on a hacked reward, standard")
    framed(axis, rows)
    axis.set_ylim(0.3, 1.02)
    axis.legend(fontsize=6.5, loc="upper left")


def framed(axis: Axes, rows: Rows) -> None:
    axis.set_xlabel("KL (nats)")
    axis.set_ylabel("win rate against the base")
    axis.set_xlim(0, 1.05 * max([0.1, *(float(row["kl"]) for row in rows)]))
    axis.set_ylim(0.48, 1.02)
