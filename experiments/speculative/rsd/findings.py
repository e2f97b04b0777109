"""What the experiment on RSD makes of its measurements."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate
from experiments.speculative.rsd.setting import Config
from experiments.speculative.trees import gain, over_prompts


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


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring; intervals over prompts."""
    ours = tuple(name for name in ("RSD-C", "RSD-S") if name in config.methods)
    theirs = tuple(name for name in ("SD", "SpecTr") if name in config.methods)
    first = config.temperatures[0]
    found = [
        Claim.tested(
            f"{' and '.join(ours)} above {' and '.join(theirs)} at equal length, "
            f"temperature {temperature}",
            "consistently",
            *(
                above(gain(methods[own], methods[other]), "1x")
                for methods in best(rows, "length", temperature).values()
                for own, other in product(ours, theirs)
            ),
            measured=_listed(best(rows, "length", temperature), "L = {}"),
            headline=temperature == first,
        )
        for temperature in config.temperatures
    ]
    if len(config.temperatures) > 1:
        found.append(_margin(config, rows, ours))
    if config.shapes:
        budgets = best(rows, "budget", first)
        ratio = next(row["ratio"] for row in rows if "ratio" in row)
        found += [
            Claim.tested(
                f"RSD above SpecTr and SD in most budgets, in {name}",
                "in most cases",
                above(_most(budgets, ours, theirs, cost), "1x"),
                measured=_listed(budgets, "{} nodes", value) + "; the median case",
            )
            for value, name, cost in (
                ("tokens_per_call", "tokens a pass", 0.0),
                ("MBSU", "MBSU", ratio),
            )
        ]
    return found


def _listed(cases: dict[int, dict[str, dict]], at: str, value: str = "tokens_per_call") -> str:
    return "; ".join(
        f"{at.format(case)}: "
        + ", ".join(f"{name} {row[value]:.2f}" for name, row in methods.items())
        for case, methods in cases.items()
    )


def _margin(config: Config, rows: list[dict[str, Any]], ours: tuple[str, ...]) -> Claim:
    """By how much more the best of RSD is above SpecTr at the lowest temperature."""
    names = (*ours, "SpecTr")
    cold, warm = min(config.temperatures), max(config.temperatures)
    cases = [best(rows, "length", t).values() for t in (cold, warm)]
    chosen = [methods[name] for there in cases for methods in there for name in names]

    def margin(rates: np.ndarray) -> float:
        each = rates.reshape(-1, len(names))
        return float(np.mean(each[:, :-1].max(axis=1) / each[:, -1]))

    def change(*rates: float) -> float:
        low, high = np.split(np.array(rates), 2)
        return margin(low) - margin(high)

    different = {row["temperature"]: row["tokens"] for row in rows if row["study"] == "distinct"}
    return Claim.tested(
        "independent drafts repeat one another at low temperatures, and lose more by it",
        "the margin grows as the temperature falls",
        above(over_prompts(change, *chosen), "0x"),
        measured=", ".join(
            f"{different[t]:.2f} different of {config.width} at {t}" for t in (warm, cold)
        )
        + f"; the margin over SpecTr at {cold} above that at {warm}",
    )


def _most(
    budgets: dict[int, dict[str, dict]], ours: tuple[str, ...], theirs: tuple[str, ...], cost: float
) -> Estimate:
    """The ratio of the bests that more than half of the budgets reach."""
    names = (*ours, *theirs)

    def reached(*rates: float) -> float:
        each = np.array(rates).reshape(-1, len(names))
        ratios = each[:, : len(ours)].max(axis=1) / each[:, len(ours) :].max(axis=1)
        return float(np.sort(ratios)[::-1][len(ratios) // 2])

    chosen = [methods[name] for methods in budgets.values() for name in names]
    return over_prompts(reached, *chosen, cost=cost)
