"""The figure of the experiment on SpecDec++."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.harness.report import figure
from experiments.speculative.specdec_pp.findings import family, fastest
from experiments.speculative.specdec_pp.setting import Config


def draw(config: Config, rows: list[dict[str, Any]], head: dict[str, Any]) -> None:
    """Discarding against verifying; speed-ups by ratio; the head's reliability."""
    path = None if config.out is None else Path(config.out) / "figure.png"
    with figure(path, columns=3) as (left, middle, right):
        for name in ("fixed", "SpecDec++", "probability"):
            found = sorted(family(rows, name), key=lambda row: row["verification"])
            left.plot(
                [row["verification"] for row in found],
                [row["discard"] for row in found],
                label={"fixed": "fixed K", "probability": "draft's probability"}.get(name, name),
            )
        for row in family(rows, "heuristic"):
            left.plot(row["verification"], row["discard"], "k*", label="heuristic")
        left.set(xlabel="target passes for each token", ylabel="discarded drafts for each token")
        for name in ("fixed", "SpecDec++", "probability", "by cost", "heuristic"):
            if not family(rows, name):
                continue
            best = [fastest(rows, name, ratio)[f"speed-up at {ratio:g}"] for ratio in config.ratios]
            named = name if name in ("by cost", "heuristic") else f"best {name}"
            middle.plot(config.ratios, best, label=named)
        middle.set(xlabel="time of a target pass / of a draft pass", ylabel="modelled speed-up")
        right.plot([0, 1], [0, 1], color="0.6", marker="")
        right.plot(head["predicted"], head["labelled"], "o-", label="head, w = 1")
        right.set(xlabel="predicted acceptance", ylabel="acceptance")
