"""The figure of the experiment on exact extraction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.harness.figures import PALETTE, figure
from experiments.tokens.exact_extract.findings import METHODS, Findings


def draw(path: Path, found: Findings) -> None:
    """F1 against labels with and without recurring spans, how often greedy answers are parts and
    the best ones, and what the search costs."""
    regimes = sorted({recurring for recurring, _ in found.rows})
    with figure(path, columns=len(regimes) + 2) as axes:
        for place, recurring in enumerate(regimes):
            _scores(axes[place], found, recurring)
        _optimal(axes[-2], found)
        _costs(axes[-1], found)


def _labels(found: Findings) -> list[int]:
    return sorted({labels for _, labels in found.rows})


def _scores(axes: Axes, found: Findings, recurring: bool) -> None:
    labels = _labels(found)
    places = np.arange(len(labels))
    for method in METHODS:
        values = [found.of(recurring, n, method) for n in labels]
        error = [196 * v.std() / np.sqrt(len(v)) for v in values]
        axes.errorbar(places, [100 * v.mean() for v in values], error, label=method, capsize=2)
    axes.set_xticks(places, map(str, labels))
    axes.set(xlabel="labelled questions", ylabel="F1, %", ylim=(0, 102))
    axes.set_title("with recurring spans" if recurring else "without recurring spans")


def _optimal(axes: Axes, found: Findings) -> None:
    labels = _labels(found)
    places = np.arange(len(labels))
    for recurring in sorted({r for r, _ in found.rows}):
        name, color = ("recurring spans", PALETTE[1]) if recurring else ("without", PALETTE[0])
        parts = [100 * found.of(recurring, n, "greedy", "part").mean() for n in labels]
        best = [100 * found.optimal(recurring, n).mean() for n in labels]
        axes.plot(places, parts, "--", color=color, label=f"a part, {name}")
        axes.plot(places, best, color=color, label=f"the best part, {name}")
    axes.set_xticks(places, map(str, labels))
    axes.set(xlabel="labelled questions", ylabel="greedy answers, %", ylim=(0, 102))
    axes.legend(fontsize=7)


def _costs(axes: Axes, found: Findings) -> None:
    ratios = [found.costs[f"{n}, naive"] / found.costs[f"{n}, exact"] for n in ("rows", "tokens")]
    times = found.costs["seconds"]
    ratios.append(float(np.mean(np.divide(times["naive"], times["exact"]))))
    axes.bar(np.arange(3), ratios, 0.6, color=PALETTE[2])
    for place, ratio in enumerate(ratios):
        axes.text(place, ratio, f"{ratio:.1f}x", ha="center", va="bottom")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(np.arange(3), ["passes", "tokens", "seconds"])
    axes.set(ylabel="naive scoring, of the exact search", ylim=(0, max(ratios) * 1.2))
