"""The figure of the experiment on LUD."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.harness.figures import PALETTE, figure
from experiments.tokens.lud.findings import Findings
from experiments.tokens.lud.measures import rate


def draw(path: Path, found: list[Findings]) -> None:
    """Quality against speed, of each kind of writing; how long spans are; tokens in units."""
    with figure(path, columns=len(found) + 2) as axes:
        for place, one in enumerate(found):
            _curve(axes[place], one)
        width = 0.8 / len(found)
        for index, one in enumerate(found):
            spans = np.sum(one.best["spans"], axis=0)
            places = np.arange(1, len(spans) + 1) + width * (index - (len(found) - 1) / 2)
            axes[-2].bar(places, 100 * spans / spans.sum(), width, label=one.name)
            alphas = [float(alpha) for alpha in one.shares]
            axes[-1].plot(alphas, [100 * x for x in one.shares.values()], label=one.name)
        axes[-2].set(xlabel="tokens of a span", ylabel="spans, %")
        axes[-1].set(xlabel="alpha", ylabel="tokens in units of 2 or more, %", ylim=(0, 102))


def _curve(axes, one: Findings) -> None:
    scored = "score" in one.base

    def quality(row) -> float:
        return 100 * float(np.mean(row["score"])) if scored else float(np.mean(row["nll"]))

    for rows, name in ((one.curve, "LUD"), (one.tails, "tails trained")):
        axes.plot([rate(row) for row in rows], [quality(row) for row in rows], label=name)
    marks = {"plain": one.base, "trained, plain": one.own, **one.others}
    for index, (name, row) in enumerate(marks.items()):
        axes.plot(
            rate(row), quality(row), "*P<>hv^D"[index % 8], color=PALETTE[(index + 2) % 7],
            label=name, markersize=7,
        )  # fmt: skip
    axes.set(xlabel="tokens a pass", ylabel="score, %" if scored else "nats a token, fine-tuned")
    axes.set_title(one.name)
    if not scored:
        axes.invert_yaxis()  # better is up
    axes.legend(fontsize=6)
