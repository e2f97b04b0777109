"""The figure of the A* experiment: accuracy against tokens and passes, under each judge."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes

from experiments.harness.figures import MARKERS, PALETTE, figure
from experiments.search.a_star_decoding.findings import EXACT, FILTER, Curves, star
from experiments.search.a_star_decoding.setting import Measured

JUDGES = {"": "the process reward model", EXACT: "exact labels of steps"}


@runtime_checkable
class Settings(Protocol):
    """What of the settings the figure shows."""

    @property
    def children(self) -> tuple[int, ...]: ...
    @property
    def particles(self) -> tuple[int, ...]: ...
    @property
    def noises(self) -> tuple[float, ...]: ...
    @property
    def main(self) -> int: ...


def draw(
    path: Path | None, config: Settings, curves: dict[str, Curves], found: dict[str, Measured]
) -> None:
    """Two panels for every judge."""
    columns = ("tokens", "passes")
    labels = ("tokens drawn, mean of a question", "passes of the judge, mean of a question")
    tops = [pair[0].score.mean(0).max() for several in curves.values() for pair in several.values()]
    highest = 100 * max([*tops, *(one.right.mean() for one in found.values())])
    with figure(path, columns=2, rows=len(curves), width=4.6, height=3.6) as axes:
        panels = iter(axes)
        for judge, several in curves.items():
            stars = [found[star(count, judge)] for count in config.children]
            for which, (column, label) in enumerate(zip(columns, labels, strict=True)):
                panel = next(panels)
                _baselines(panel, several, which)
                at = [getattr(one, column).mean() for one in stars]
                _stars(panel, at, [100 * one.right.mean() for one in stars], config.children)
                if judge and config.noises:
                    _noisy(panel, config, found, column)
                panel.set_xscale("log", base=2)
                panel.set(xlabel=label, ylabel="accuracy, %", title=f"judged by {JUDGES[judge]}")
                panel.set_ylim(0, min(100, 1.2 * highest))
                # Under a judge that knows, curves rise and leave the lower right free.
                panel.legend(loc="lower right" if judge else "upper left", fontsize=7)


def _baselines(panel: Axes, curves: Curves, which: int) -> None:
    """One curve for each baseline that spends anything of this kind."""
    for place, (name, pair) in enumerate(curves.items()):
        spent = pair[which].tokens.mean(0)
        if spent.max() > 0:
            panel.plot(
                spent,
                100 * pair[which].score.mean(0),
                color=PALETTE[place],
                marker=MARKERS[place],
                label=name,
            )


def _stars(panel: Axes, at: list[float], right: list[float], children: tuple[int, ...]) -> None:
    panel.plot(at, right, "k*-", ms=9, label="A*")
    for x, y, count in zip(at, right, children, strict=True):
        panel.annotate(
            f"k={count}", (x, y), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=7
        )


def _noisy(panel: Axes, config: Settings, found: dict[str, Measured], column: str) -> None:
    """A* and particle filtering where the exact reward's logit is disturbed, as open marks."""
    some = config.particles[len(config.particles) // 2]
    for noise in config.noises:
        for name, marker in ((star(config.main), "*"), (f"{FILTER}, N={some}", MARKERS[3])):
            one = found[f"{name}, noise {noise:g}"]
            panel.plot(
                np.mean(getattr(one, column)),
                100 * one.right.mean(),
                marker=marker,
                ms=9 if marker == "*" else 5,
                mfc="white",
                color="black" if marker == "*" else PALETTE[3],
                linestyle="none",
                label=f"{name}, noise {noise:g} on its logit",
            )
