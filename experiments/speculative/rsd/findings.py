"""What the experiment on RSD makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.report import Claim
from experiments.speculative.rsd.setting import Config


def best(rows: list[dict[str, Any]], study: str, temperature: float) -> dict[int, dict[str, dict]]:
    """By length or budget, the best row of each method."""
    found: dict[int, dict[str, dict]] = {}
    for row in rows:
        if row["study"] == study and row["temperature"] == temperature:
            methods = found.setdefault(row["at"], {})
            other = methods.get(row["method"])
            if other is None or row["tokens_per_call"] > other["tokens_per_call"]:
                methods[row["method"]] = row
    return found


def claims(config: Config, rows: list[dict[str, Any]], distinct: dict[str, float]) -> list[Claim]:
    """By rules fixed before measuring."""
    ours = tuple(name for name in ("RSD-C", "RSD-S") if name in config.methods)
    first = config.temperatures[0]
    theirs = tuple(name for name in ("SD", "SpecTr") if name in config.methods)

    def top(methods: dict[str, dict], names: tuple[str, ...]) -> dict:
        return max((methods[name] for name in names), key=lambda row: row["tokens_per_call"])

    found = []
    for temperature in config.temperatures:
        lengths = best(rows, "length", temperature)
        wins = [
            methods[name]["tokens_per_call"] > top(methods, theirs)["tokens_per_call"]
            for methods in lengths.values()
            for name in ours
        ]
        measured = "; ".join(
            f"L = {length}: "
            + ", ".join(f"{name} {row['tokens_per_call']:.2f}" for name, row in methods.items())
            for length, methods in lengths.items()
        )
        found.append(
            Claim(
                f"{' and '.join(ours)} above {' and '.join(theirs)} at equal length, "
                f"temperature {temperature}",
                "consistently",
                measured,
                all(wins),
            )
        )
    if len(config.temperatures) > 1:
        margin = {}
        for temperature in config.temperatures:
            pairs = best(rows, "length", temperature).values()
            margin[temperature] = float(
                np.mean(
                    [
                        top(methods, ours)["tokens_per_call"] / methods["SpecTr"]["tokens_per_call"]
                        for methods in pairs
                    ]
                )
            )
        found.append(
            Claim(
                "independent drafts repeat one another at low temperatures, and lose more by it",
                "the margin grows as the temperature falls",
                ", ".join(
                    f"{margin[t]:.2f}x SpecTr at {t} ({distinct[str(t)]:.2f} different of "
                    f"{config.width})"
                    for t in config.temperatures
                ),
                margin[min(margin)] > margin[max(margin)],
            )
        )
    if config.shapes:
        budgets = best(rows, "budget", first)
        for value, name in (("tokens_per_call", "tokens a pass"), ("MBSU", "MBSU")):
            won = [
                max(methods[own][value] for own in ours) > max(methods[o][value] for o in theirs)
                for methods in budgets.values()
            ]
            found.append(
                Claim(
                    f"RSD above SpecTr and SD at equal budget, in {name}",
                    "in most cases",
                    "; ".join(
                        f"{budget} nodes: "
                        + ", ".join(f"{own} {row[value]:.2f}" for own, row in methods.items())
                        for budget, methods in budgets.items()
                    ),
                    2 * sum(won) > len(won),
                )
            )
    return found
