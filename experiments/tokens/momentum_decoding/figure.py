"""The figure of the experiment on momentum decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.harness.figures import MARKERS, figure
from experiments.tokens.momentum_decoding.findings import PEOPLE, Findings
from experiments.tokens.open_texts import interval


def draw(path: Path, found: Findings) -> None:
    """Diversity and coherence; alpha; k; repetition; what is read; time."""
    with figure(path, columns=3, rows=2) as (both, alphas, ks, repeats, read, seconds):
        _both(both, found)
        _sweep(alphas, found, "alpha", (*found.config.alphas, found.config.alpha))
        _sweep(ks, found, "k", (1, *found.config.ks, found.config.k))
        _repeats(repeats, found)
        _bars(read, {n: found.rows[n]["read"] for n in found.ratios}, "tokens read a token")
        spans = {name: interval(ratio) for name, ratio in found.ratios.items()}
        _bars(seconds, {n: s[0] for n, s in spans.items()}, "seconds over greedy decoding's")
        for place, span in enumerate(spans.values()):
            error = [[span[0] - span[1]], [span[2] - span[0]]]
            seconds.errorbar(place, span[0], error, color="black", capsize=3, marker="")
        seconds.set_ylim(0, 1.1 * max(span[2] for span in spans.values()))


def _both(axes: Axes, found: Findings) -> None:
    names = [n for n in found.rows if not n.startswith(("alpha ", "k ", PEOPLE))] + [PEOPLE]
    for index, name in enumerate(names):
        across, up = (interval(found.values(name, m)) for m in ("coherence", "diversity"))
        axes.errorbar(
            across[0],
            up[0],
            xerr=[[across[0] - across[1]], [across[2] - across[0]]],
            yerr=[[up[0] - up[1]], [up[2] - up[0]]],
            color=f"C{index % 7}",
            marker=MARKERS[index % len(MARKERS)],
            mfc="white" if index >= len(MARKERS) else None,
            linestyle="",
            label=name,
        )
    axes.set(
        xlabel=f"coherence, log p under the judge, nats a {found.config.coherence}",
        ylabel="diversity",
        ylim=(-0.02, 1.05),
    )
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.75 * (high - low))
    axes.legend(fontsize=6.5, loc="lower right")


def _sweep(axes: Axes, found: Findings, name: str, settings: tuple[float, ...]) -> None:
    """Diversity by one number; the method's own is what the others are tried beside."""

    def row(value: float) -> str:
        if value == getattr(found.config, name):
            return "momentum"
        return "greedy" if (name, value) == ("k", 1) else f"{name} {value:g}"

    order = sorted(set(settings))
    spans = np.array([interval(found.values(row(x), "diversity")) for x in order])
    error = [spans[:, 0] - spans[:, 1], spans[:, 2] - spans[:, 0]]
    axes.errorbar(order, spans[:, 0], error, capsize=2, label="momentum")
    for index, other in enumerate((PEOPLE, "contrastive search"), start=1):
        level = found.mean(other, "diversity")
        axes.axhline(level, color=f"C{index}", linestyle="--", linewidth=1.2, label=other)
    axes.set(xlabel=name, ylabel="diversity", ylim=(0, 1.25))
    if name == "k":
        axes.set_xscale("log")
    axes.set_xticks(order, [f"{x:g}" for x in order])
    axes.minorticks_off()
    axes.legend(loc="upper left", ncols=2, fontsize=7)


def _repeats(axes: Axes, found: Findings) -> None:
    names = ["greedy", "momentum", "contrastive search", found.nucleus, PEOPLE]
    places = np.arange(3)
    for index, name in enumerate(names):
        values = [found.mean(name, f"rep-{n}") for n in (2, 3, 4)]
        axes.bar(places + 0.16 * (index - 2), values, 0.15, color=f"C{index}", label=name)
    axes.set_xticks(places, ["2-grams", "3-grams", "4-grams"])
    axes.set(ylabel="repeated, %", ylim=(0, 135))
    axes.legend(loc="upper left", fontsize=7, ncols=2)


def _bars(axes: Axes, values: dict[str, float], label: str) -> None:
    places = np.arange(len(values))
    axes.bar(places, list(values.values()), 0.6, color=[f"C{i}" for i in range(len(values))])
    axes.set_xticks(places, [name.replace(" ", "\n") for name in values])
    axes.set(ylabel=label, ylim=(0, 1.15 * max(values.values())))
