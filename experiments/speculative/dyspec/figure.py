"""The figure of the experiment on DySpec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.harness.report import figure
from experiments.speculative.dyspec.setting import RATIOS, Config


def draw(config: Config, rows: list[dict[str, Any]], estimates: list[dict[str, Any]]) -> None:
    """Acceptance by draft probability, tokens a pass by budget, modelled speed-up by ratio."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    temperature, most = config.temperatures[0], config.budgets[-1]
    with figure(path, columns=3, width=3.8) as (left, middle, right):
        for name in ("acceptance", "target probability"):
            left.plot(
                [row["middle"] for row in estimates], [row[name] for row in estimates], label=name
            )
        left.set(xlabel="draft probability of the token drawn", ylabel="mean", ylim=(0, 1))
        for method in config.methods:
            mine = [row for row in rows if row["method"] == method]
            along = [row for row in mine if row["temperature"] == temperature]
            middle.errorbar(
                [row["budget"] for row in along],
                [row["tokens_per_call"] for row in along],
                [2 * row["error"] for row in along],
                label=method,
                capsize=2,
                marker="o",
            )
            last = next(row for row in along if row["budget"] == most)
            right.plot(RATIOS, [last[f"modelled at R = {r}"] for r in RATIOS], label=method)
        middle.set(
            xlabel="nodes of a tree",
            ylabel="tokens for each pass of the target",
            title=f"temperature {temperature}",
        )
        middle.set_xticks(config.budgets)
        right.set(
            xlabel="R, draft passes in the time of a target pass",
            ylabel="modelled speed-up",
            xscale="log",
            title=f"temperature {temperature}, {most} nodes",
        )
