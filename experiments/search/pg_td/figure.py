"""The figure of the experiment on planning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from experiments.harness.figures import MARKERS, PALETTE, figure
from experiments.search.pg_td.setting import CACHES, Config


def draw(path: Path, config: Config, found: Mapping[str, Any]) -> None:
    """Hidden tests against completions, what the caches save, and what a bonus does."""
    with figure(path, columns=3 if config.ablations else 2, width=4.2, height=3.6) as axes:
        _curves(axes[0], config, found)
        _bonus(axes[1], found)
        if config.ablations:
            _caches(axes[2], found)


def _curves(axes: Axes, config: Config, found: Mapping[str, Any]) -> None:
    for place, (name, label) in enumerate(
        (("PG-TD", "PG-TD"), ("sampling", "sampling and filtering"))
    ):
        one = found[name]
        axes.plot(one.written.mean(0), 100 * one.hidden.mean(0), label=label, **_style(place))
    for place, prefix, label, sizes in (
        (2, "SMCG-TD, n=", "SMCG-TD, n", config.particles),
        (3, "beam search, b=", "beam search, filtered, b", config.beams),
    ):
        runs = [found[f"{prefix}{size}"] for size in sizes]
        at = [one.written[:, -1].mean() for one in runs]
        rate = [100 * one.hidden[:, -1].mean() for one in runs]
        axes.plot(at, rate, label=label, **_style(place))
        for x, y, size in zip(at, rate, sizes, strict=True):
            axes.annotate(
                str(size),
                (x, y),
                textcoords="offset points",
                xytext=(0, -12),
                ha="center",
                fontsize=7,
            )
    runs = [found[f"beam search, b={size}"] for size in config.beams]
    at = [one.written[:, -1].mean() for one in runs]
    axes.plot(at, [100 * one.first.mean() for one in runs], label="likeliest beam", **_style(4))
    axes.set_xscale("log", base=2)
    axes.set(xlabel="completions written, mean of a problem", ylabel="hidden tests passed, %")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=7)


def _style(place: int) -> dict[str, Any]:
    return {"color": PALETTE[place], "marker": MARKERS[place]}


def _bonus(axes: Axes, found: Mapping[str, Any]) -> None:
    """Every reward as a point."""
    names = [name for name in ("PG-TD", "PG-TD, shorter", "PG-TD, commented") if name in found]
    for place, name in enumerate(names):
        one, style = found[name], _style(place)
        label = "tests alone" if name == "PG-TD" else f"bonus: {name.rpartition(', ')[2]}"
        axes.plot(
            [one.size.mean()],
            [100 * one.hidden[:, -1].mean()],
            linestyle="",
            ms=8,
            label=label,
            **style,
        )
    axes.set_xlim(0.0, 1.3 * max(found[name].size.mean() for name in names))
    rates = [100 * found[name].hidden[:, -1].mean() for name in names]
    axes.set_ylim(min(rates) - 5, max(rates) + 5)
    axes.set(xlabel="size of the returned program", ylabel="hidden tests passed, %")


def _caches(axes: Axes, found: Mapping[str, Any]) -> None:
    bars = {name: f"PG-TD, caches: {name}" for name in CACHES}
    values = [found[name].tokens.mean() for name in bars.values()]
    drawn = axes.bar(list(bars), values, color=PALETTE[5])
    axes.bar_label(drawn, fmt="%.0f", fontsize=8)
    axes.grid(axis="x", visible=False)
    axes.set(xlabel="caches", ylabel="tokens that the model runs, a problem")
