"""The figure of the experiment on EAD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.harness.figures import PALETTE, figure
from experiments.harness.statistics import paired
from experiments.tokens.ead.findings import Findings
from experiments.tokens.ead.setting import Row


def draw(path: Path, found: Findings) -> None:
    """Score against who wrote, against what it cost, the gap to the line, and one answer."""
    with figure(path, columns=2, rows=2) as (share, flops, gap, strip):
        _curves(share, found, lambda row: 100 * float(row["share"]))
        share.plot(
            [0, 100], [_score(found.small), _score(found.large)], "k--", marker="", linewidth=1
        )
        share.set(xlabel="tokens by the large model, %", ylabel="right answers, %")
        _curves(flops, found, lambda row: 100 * found.flops(row), named="_")
        ends = [100 * found.flops(found.small), 100.0]
        flops.plot(ends, [_score(found.small), _score(found.large)], "k--", marker="", linewidth=1)
        flops.set(xlabel="FLOPs counted, % of the large model's", ylabel="right answers, %")
        _gap(gap, found)
        _strip(strip, found)


def _score(row: Row) -> float:
    return 100 * float(np.mean(row["right"]))


def _curves(axes: Axes, found: Findings, place, named: str = "") -> None:
    """`named` goes before labels: an underscore keeps them from the legend."""
    for (window, hold), rows in found.curves.items():
        axes.plot(
            [place(row) for row in rows],
            [_score(row) for row in rows],
            label=f"{named}w={window}, d={hold}",
        )
    for name, rows in (
        ("by chance", found.chance),
        ("whole questions", found.routed),
        ("uncertain tokens anew", found.anew),
    ):
        axes.plot(
            [place(row) for row in rows],
            [_score(row) for row in rows],
            linestyle=":",
            label=named + name,
        )


def _gap(axes: Axes, found: Findings) -> None:
    """Points above the line between the models, with intervals over questions."""
    for index, (name, rows) in enumerate((("entropy", found.curve), ("by chance", found.chance))):
        gaps = [paired(found.over_chord(row), np.zeros(len(row["right"]))) for row in rows]
        mean, low, high = np.array(gaps).T
        shares = [100 * float(row["share"]) for row in rows]
        axes.errorbar(
            shares, mean, [mean - low, high - mean], label=name, capsize=2, linewidth=1.2,
            color=PALETTE[index],
        )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="tokens by the large model, %", ylabel="points above the line")


def _strip(axes: Axes, found: Findings) -> None:
    """Entropy of each token of one answer, by who wrote it."""
    bits, large = np.asarray(found.strip["bits"]), np.asarray(found.strip["large"], bool)
    texts = [text.replace("\n", "\\n").replace("<eos>", ".") for text in found.strip["texts"]]
    place = np.arange(len(bits))
    for which, name, color in ((~large, "small", PALETTE[0]), (large, "large", PALETTE[1])):
        axes.bar(place[which], bits[which], 0.8, color=color, label=f"{name} model writes")
    tau = found.config.thresholds[found.chosen]
    axes.axhline(tau, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(place, texts, fontsize=6)
    axes.set(ylabel="entropy, bits", ylim=(0, max(1.35 * bits.max(initial=0.1), 1.3 * tau)))
    axes.legend(fontsize=8, loc="upper right", ncols=2)
