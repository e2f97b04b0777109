"""The figure of the experiment on ICN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments.harness.figures import PALETTE, figure
from experiments.tokens.icn.findings import WALK, Findings
from experiments.tokens.icn.measures import precisions


def draw(path: Path, found: Findings) -> None:
    """Right answers against what was explored, precision, the middle ranks, the queries."""
    with figure(path, columns=2, rows=2) as axes:
        _curves(axes[0], found)
        _precision(axes[1], found)
        _ranks(axes[2], found)
        _queries(axes[3], found)
        for counted in (axes[0], axes[1], axes[3]):
            counted.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curves(axes: Axes, found: Findings) -> None:
    for index, name in enumerate(found.methods):
        row, count = found.methods[name], found.config.items
        different = np.zeros(count)
        for items, right in zip(row["items"], row["right"], strict=True):
            for n in range(count):
                pairs = zip(items[: n + 1], right[: n + 1], strict=True)
                different[n] += len({item for item, good in pairs if good})
        axes.plot(
            np.arange(1, count + 1), different / len(row["items"]), label=name,
            color=PALETTE[index % len(PALETTE)], marker="osD^vPX*<>"[index % 10], markersize=3,
        )  # fmt: skip
    axes.plot([1, found.config.items], [1, found.config.items], color="grey", linewidth=0.8,
              linestyle=":", marker="")  # fmt: skip
    axes.set(xlabel="items explored", ylabel="different right ones of a category")
    axes.legend(fontsize=6)


def _precision(axes: Axes, found: Findings) -> None:
    for name in (found.best, WALK, "sampling"):
        right = found.right(name)
        axes.plot(np.arange(1, right.shape[1] + 1), precisions(right).mean(0), label=name)
    axes.set(xlabel="items explored", ylabel="precision, repeated ones counted", ylim=(0, 1.02))


def _ranks(axes: Axes, found: Findings) -> None:
    inside, outside, _ = found.apart("right", "points", 100.0)
    near, far, _ = found.apart("ranks", "ranks")
    top = float(np.mean([one["top"] for one in found.ranks["groups"]]))
    names = [
        f"first {found.config.top}",
        f"same clusters\n(mean rank {near:.0f})",
        f"other clusters\n(mean rank {far:.0f})",
    ]
    axes.bar(names, [100 * top, inside, outside], color=list(PALETTE[:3]))
    axes.set(ylabel="right, %")
    axes.set_title(f"ranks {found.config.top + 1} to {found.config.ranks} by clusters of keys")


def _queries(axes: Axes, found: Findings) -> None:
    cosine, stands = (np.asarray(found.moved[name]).mean(0) for name in ("cosine", "stands"))
    runs = np.arange(1, len(cosine) + 1)
    axes.plot(runs, cosine, label="cosine with the first query")
    axes.plot(
        runs, stands / stands[0], label="first token's logit above the mean,\nof that in run 1"
    )
    axes.set(xlabel="run, one item each", ylabel="query of the run")
