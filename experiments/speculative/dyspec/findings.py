"""What the experiment on DySpec makes of its measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.harness.judging.claim import Claim, above
from experiments.harness.statistics import Estimate, bootstrap, correlation
from experiments.speculative.dyspec.setting import RATIOS, Config
from experiments.speculative.trees import gain, over_prompts

NODES_A_PASS = 6.4  # 64 nodes in 10 passes of the draft model
Cases = dict[tuple[float, int], dict[str, dict[str, Any]]]


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring; intervals over prompts."""
    cases: Cases = {}
    for row in rows:
        if "budget" in row:
            cases.setdefault((row["temperature"], row["budget"]), {})[row["method"]] = row
    estimates = [row for row in rows if "draft probability" in row]
    found = [_rises(estimates)]
    ours = "DySpec" if "DySpec" in config.methods else "DySpec, threshold"
    for better, worse in ((ours, "Sequoia"), ("Sequoia", "SpecInfer"), (ours, "SpecInfer")):
        if better in config.methods and worse in config.methods:
            pairs = {case: (methods[better], methods[worse]) for case, methods in cases.items()}
            found.append(
                Claim.tested(
                    f"{better} has more tokens accepted than {worse}",
                    "at all temperatures, budget 64",
                    *(above(gain(*pair), "1x") for pair in pairs.values()),
                    measured="; ".join(
                        f"{a['tokens_per_call']:.2f} : {b['tokens_per_call']:.2f} "
                        f"(T = {t:g}, {n} nodes)"
                        for (t, n), (a, b) in pairs.items()
                    ),
                    headline=(better, worse) == (ours, "Sequoia"),
                )
            )
    level = [
        methods["DySpec, threshold"]
        for (_, budget), methods in cases.items()
        if budget == config.budgets[-1]
    ]
    found.append(
        Claim.tested(
            f"with a threshold, at least {NODES_A_PASS} nodes for each pass of the draft model",
            "fewer than 10 passes for 64 nodes, fewer than 30 for 768",
            *(above(_nodes_a_pass(row), f"{NODES_A_PASS} nodes") for row in level),
            measured="; ".join(
                f"{row['draft_passes']:.1f} for {row['nodes']:.1f}" for row in level
            ),
        )
    )
    if "DySpec" in config.methods and "chain" in config.methods:
        found += [_fastest(cases), _deeper(level)]
    return found


def _rises(estimates: list[dict[str, Any]]) -> Claim:
    """Every step from one bin of draft probability to the next is up."""
    weight, accepted = (
        np.array([row["by prompt"][name] for row in estimates]).T for name in ("weight", "accepted")
    )

    def step(place: int) -> Estimate:
        def up(weight: np.ndarray, accepted: np.ndarray) -> float:
            rates = accepted.sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
            return float(rates[1] - rates[0])

        return bootstrap(up, weight[:, place : place + 2], accepted[:, place : place + 2])

    return Claim.tested(
        "acceptance rises with draft probability",
        "strongly increasing",
        *(above(step(place), "0") for place in range(len(estimates) - 1)),
        measured=", ".join(f"{row['acceptance']:.2f}" for row in estimates)
        + " from the least likely on; steps",
    )


def _nodes_a_pass(row: dict[str, Any]) -> Estimate:
    counts = row["by prompt"]
    return bootstrap(
        lambda nodes, passes: nodes.sum() / passes.sum(),
        counts["drafted"],
        counts["draft_passes"],
        unit="nodes",
    )


def _fastest(cases: Cases) -> Claim:
    ratio = RATIOS[-1]
    best = {
        case: max(methods.values(), key=lambda row: row[f"modelled at R = {ratio}"])
        for case, methods in cases.items()
    }

    def lead(methods: dict[str, dict[str, Any]]) -> Estimate:
        ours = [row for name, row in methods.items() if name.startswith("DySpec")]
        others = [row for name, row in methods.items() if not name.startswith("DySpec")]
        return over_prompts(
            lambda *speeds: max(speeds[: len(ours)]) / max(speeds[len(ours) :]),
            *ours,
            *others,
            cost=1 / ratio,
        )

    return Claim.tested(
        f"the fastest of all where a pass of the target takes {ratio} of the draft's",
        "up to 9.1x at temperature 0, 6.21x at high temperature (7B for 70B)",
        *(above(lead(methods), "1x") for methods in cases.values()),
        measured="; ".join(
            f"{row[f'modelled at R = {ratio}']:.2f}x by {row['method']} (T = {t:g}, {n} nodes)"
            for (t, n), row in best.items()
        )
        + "; over the best of the others",
    )


def _deeper(level: list[dict[str, Any]]) -> Claim:
    def follows(row: dict[str, Any]) -> Estimate:
        counts = row["by prompt"]
        return bootstrap(
            lambda depth, passes, emitted: correlation(depth / passes, emitted / passes),
            *(counts[name] for name in ("draft_passes", "passes", "emitted")),
        )

    return Claim.tested(
        "trees are deeper where more of them is accepted",
        "the tree adapts to each query",
        *(above(follows(row), "0") for row in level),
        measured="correlation over prompts (threshold)",
    )
