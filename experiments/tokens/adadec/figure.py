"""The figure of the experiment on AdaDec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.harness.figures import PALETTE, figure
from experiments.tokens.adadec.findings import Findings
from experiments.tokens.adadec.measures import per_token


def draw(path: Path, found: list[Findings]) -> None:
    """Of each task how sure the model's first choice is, and pass@1 against what it cost."""
    with figure(path, columns=len(found), rows=2) as axes:
        for column, one in enumerate(found):
            _curve(axes[column], one)
            _costs(axes[len(found) + column], one)


def _curve(axes: Axes, one: Findings) -> None:
    h, share, _ = np.array(one.curve).T
    grid = np.linspace(0, max(h.max(), one.threshold.value) * 1.1, 100)
    curve = one.threshold
    logit = curve.bias + curve.weight * grid + np.log(curve.first / (1 - curve.first))
    axes.plot(h, share, label="of the tokens read")
    axes.plot(grid, 1 / (1 + np.exp(-logit)), marker="", label="fitted, unbalanced")
    axes.axvline(curve.value, color="black", linewidth=1, label="threshold")
    axes.axvline(curve.balanced, color="grey", linewidth=1, linestyle=":", label="balanced one")
    axes.axhline(0.5, color="black", linewidth=0.5)
    axes.set(xlabel="entropy, nats", ylabel="first choice is right", ylim=(0, 1.02))
    axes.set_title(one.name)
    axes.legend(fontsize=7)


def _costs(axes: Axes, one: Findings) -> None:
    """Pass@1 with its standard error, against tokens evaluated."""
    for index, (name, row) in enumerate(one.rows.items()):
        right = 100 * np.asarray(row["right"])
        error = 1.96 * right.std() / np.sqrt(len(right))
        axes.errorbar(
            per_token(row, "evaluated"), right.mean(), error, label=name, capsize=2,
            color=PALETTE[index % len(PALETTE)], marker="osD^vPX*<>"[index % 10],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set(xlabel="tokens evaluated, of each written", ylabel="pass@1, %")
    axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
