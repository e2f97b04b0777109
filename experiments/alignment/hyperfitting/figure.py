"""The figure of the experiment on hyperfitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.alignment.hyperfitting.findings import Findings
from experiments.alignment.hyperfitting.predictions import RANKS
from experiments.harness.figures import figure

LEVELS = {"human": "-", "original": "--", "nucleus": "-.", "fresh texts": ":"}


def draw(path: Path, found: Findings) -> None:
    """Ratio against loss, the run, certainty, overlap, sizes of the set, orders of it."""
    with figure(path, columns=3, rows=2) as (ratio, losses, certain, overlap, sizes, orders):
        _ratio(ratio, found)
        steps = list(found.config.steps)
        for measure, label in (("train_loss", "training"), ("loss", "validation")):
            losses.plot(steps, [row[measure] for row in found.curve], label=label)
        losses.set(xlabel="updates", ylabel="loss, nats", ylim=(0, None))
        _certain(certain, found)
        _overlap(overlap, found)
        _sizes(sizes, found)
        _orders(orders, found)


def _ratio(axes: Axes, found: Findings) -> None:
    means = [100 * np.mean(row["ttr"]) for row in found.curve]
    axes.plot([row["train_loss"] for row in found.curve], means, label="hyperfitting")
    for index, (name, style) in enumerate(LEVELS.items(), start=1):
        level = 100 * found.mean(name, "ttr")
        axes.axhline(level, color=f"C{index}", linestyle=style, label=name, linewidth=1.2)
    axes.set(xlabel="training loss, nats", ylabel="type-token ratio, %", ylim=(0, None))
    axes.invert_xaxis()  # training goes from left to right
    axes.legend(fontsize=8)


def _certain(axes: Axes, found: Findings) -> None:
    """Mass of the top ranks before and after, the entropies in the legend."""
    places = np.arange(len(RANKS))
    for index, name in enumerate(("original", "hyperfitted")):
        row = found.rows[name]
        mass = [100 * row[f"mass{rank}"] for rank in RANKS]
        label = f"{name}: entropy {row['entropy']:.2f}"
        axes.bar(places + 0.4 * index - 0.2, mass, 0.38, color=f"C{index}", label=label)
    axes.set_xticks(places, [f"top {rank}" for rank in RANKS])
    axes.set(ylabel="probability mass, held out, %", ylim=(0, 130))
    axes.legend(loc="upper left", fontsize=8)


def _overlap(axes: Axes, found: Findings) -> None:
    names = ("original", "hyperfitted", "no citations")
    most = max(int(np.max(found.rows[name]["overlap"])) for name in names)
    edges = np.arange(most + 2) - 0.5
    for index, name in enumerate(names):
        values = found.rows[name]["overlap"]
        axes.hist(
            values, edges.tolist(), histtype="step", linewidth=1.6, color=f"C{index}", label=name
        )
    axes.set(xlabel="longest run shared with a training text, tokens", ylabel="texts")


def _sizes(axes: Axes, found: Findings) -> None:
    config = found.config
    sizes = [*config.sizes, config.texts]
    names = [*(f"{size} texts" for size in config.sizes), "hyperfitted"]
    axes.plot(sizes, [100 * found.mean(name, "ttr") for name in names], label="type-token ratio")
    level = 100 * found.mean("original", "ttr")
    axes.axhline(level, color="C1", linestyle="--", linewidth=1.2, label="original")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(xlabel="training texts, same updates", ylabel="type-token ratio, %", ylim=(0, None))


def _orders(axes: Axes, found: Findings) -> None:
    share = 100 * found.agreement
    names = ["original", *(f"order {order}" for order in range(len(share) - 1))]
    axes.imshow(share, vmin=0, vmax=100, cmap="Blues")
    for (i, j), value in np.ndenumerate(share):
        colour = "white" if value > 60 else "black"
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(share)), names)
    axes.set_yticks(range(len(share)), names)
    axes.grid(False)
    axes.set_title("equal top predictions, held out, %")
