"""The figure of the experiment on IAD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.agents.iad.refinement_chain import Chain, score
from experiments.agents.iad.setting import Config
from experiments.harness.figures import figure

Curves = dict[str, NDArray[np.float64]]
SHOWN = {
    "best-of-N": "best-of-N",
    "IAD": "IAD",
    "IAD, another's feedback": "another's feedback",
    "IAD, one at a time": "one at a time",
    "IAD, one at a time, always replaced": "one, always replaced",
}


def draw(path: Path, curves: Curves, config: Config) -> None:
    """Score and solved questions against calls, score against noise, the exact toy, programs."""
    with figure(path, columns=2, rows=3 if config.writer else 2) as (scores, solved, *others):
        noise, toy, *programs = others
        for name, shown in SHOWN.items():
            values = curves[name]
            _against_calls(scores, values.mean(axis=0), config, label=shown)
            _against_calls(solved, 100 * (values == 1).mean(axis=0), config)  # labelled once
        scores.set(ylabel="mean score", ylim=(0, None))
        scores.legend(loc="lower right", ncols=2, fontsize=8, columnspacing=1.0)
        solved.set(ylabel="solved, %")
        sigmas = (0.0, *config.sigmas)
        names = ["", *(f", noise {sigma:g}" for sigma in config.sigmas)]
        for method in ("best-of-N", "IAD"):
            means = [curves[f"{method}{name}"][:, -1].mean() for name in names]
            noise.plot(sigmas, means, label=method)
        noise.set(xlabel="noise of the verifier, standard deviation", ylabel="mean score")
        for redraw in (1.0, 0.1, 0.2, 0.4):
            laws = Chain(redraw=redraw).run(config.rounds, config.samples)
            label = "best-of-N" if redraw == 1.0 else f"IAD, redraws {redraw:g}"
            toy.plot(
                _calls(config.rounds, config.samples), [score(law) for law in laws], label=label
            )
        toy.set(xlabel="calls", ylabel="mean score", title="exact: 12 hidden bits")
        for axes, whole in zip(programs, (False, True), strict=False):
            for name in ("best-of-N", "IAD", "IAD, another's feedback"):
                values = curves[f"programs: {name}"]
                mean = 100 * (values == 1 if whole else values).mean(axis=0)
                _against_calls(axes, mean, config, label=SHOWN[name])
            told = "all hidden tests, %" if whole else "hidden tests, %"
            axes.set(ylabel=told, title="list programs")


def _against_calls(axes: Axes, values: NDArray[np.float64], config: Config, **style: Any) -> None:
    """A value for every round; markers as sparse on all curves."""
    samples = config.calls // len(values)
    every = config.samples // samples or 1
    axes.plot(_calls(len(values), samples), values, markevery=(every - 1, every), **style)
    axes.set(xlabel="calls of the agent and of the verifier")


def _calls(rounds: int, samples: int) -> list[int]:
    return [samples * turn for turn in range(1, rounds + 1)]
