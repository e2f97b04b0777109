"""The figure of the experiment on RSD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.harness.report import figure
from experiments.speculative.rsd.findings import best
from experiments.speculative.rsd.setting import Config


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Tokens a pass by length at each temperature and by budget, and MBSU by budget."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    panels = [
        ("length", t, "tokens_per_call", f"temperature {t}, {config.width} sequences")
        for t in config.temperatures
    ]
    if config.shapes:
        first = config.temperatures[0]
        panels += [
            ("budget", first, "tokens_per_call", f"temperature {first}, equal budget"),
            ("budget", first, "MBSU", f"temperature {first}, equal budget"),
        ]
    with figure(path, columns=len(panels), width=3.6) as axes:
        for axis, (study, temperature, value, title) in zip(axes, panels, strict=True):
            found = best(rows, study, temperature)
            for method in dict.fromkeys(name for methods in found.values() for name in methods):
                there = {at: methods[method] for at, methods in found.items() if method in methods}
                axis.errorbar(
                    list(there),
                    [row[value] for row in there.values()],
                    [2 * row["error"] if value != "MBSU" else 0 for row in there.values()],
                    label=method,
                    capsize=2,
                    marker="o",
                )
            axis.set_xlabel("draft length L" if study == "length" else "nodes of a tree")
            axis.set_ylabel("MBSU" if value == "MBSU" else "tokens for each pass of the target")
            axis.set_title(title)
            axis.set_xticks(list(found))
