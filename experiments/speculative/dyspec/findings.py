"""What the experiment on DySpec makes of its measurements."""

from __future__ import annotations

from typing import Any

from experiments.harness.report import Claim
from experiments.speculative.dyspec.setting import RATIOS, Config
from experiments.speculative.trees import rising


def claims(
    config: Config, rows: list[dict[str, Any]], estimates: list[dict[str, Any]]
) -> list[Claim]:
    """By rules fixed before measuring."""
    cases: dict[tuple[float, int], dict[str, dict]] = {}
    for row in rows:
        cases.setdefault((row["temperature"], row["budget"]), {})[row["method"]] = row
    accepted = [row["acceptance"] for row in estimates]
    found = [
        Claim(
            "acceptance rises with draft probability",
            "strongly increasing",
            ", ".join(f"{value:.2f}" for value in accepted) + " from the least likely on",
            rising(accepted, 0.02),
        )
    ]
    ours = "DySpec" if "DySpec" in config.methods else "DySpec, threshold"
    for better, worse in ((ours, "Sequoia"), ("Sequoia", "SpecInfer"), (ours, "SpecInfer")):
        if better in config.methods and worse in config.methods:
            pairs = {
                case: (found[better]["tokens_per_call"], found[worse]["tokens_per_call"])
                for case, found in cases.items()
            }
            found.append(
                Claim(
                    f"{better} has more tokens accepted than {worse}",
                    "at all temperatures, budget 64",
                    "; ".join(
                        f"{a:.2f} : {b:.2f} (T = {t:g}, {n} nodes)"
                        for (t, n), (a, b) in pairs.items()
                    ),
                    all(a > b for a, b in pairs.values()),
                    headline=(better, worse) == (ours, "Sequoia"),
                )
            )
    level = [methods["DySpec, threshold"] for methods in cases.values()]
    found.append(
        Claim(
            "with a threshold, far fewer passes of the draft model than nodes",
            "fewer than 10 passes for 64 nodes, fewer than 30 for 768",
            "; ".join(f"{row['draft_passes']:.1f} for {row['nodes']:.1f}" for row in level),
            all(2 * row["draft_passes"] < row["nodes"] for row in level),
        )
    )
    if "DySpec" in config.methods and "chain" in config.methods:
        ratio = RATIOS[-1]
        best = {
            case: max(methods.values(), key=lambda row: row[f"modelled at R = {ratio}"])
            for case, methods in cases.items()
        }
        found.append(
            Claim(
                f"the fastest of all where a pass of the target takes {ratio} of the draft's",
                "up to 9.1x at temperature 0, 6.21x at high temperature (7B for 70B)",
                "; ".join(
                    f"{row[f'modelled at R = {ratio}']:.2f}x by {row['method']} (T = {t:g}, "
                    f"{n} nodes)"
                    for (t, n), row in best.items()
                ),
                all(row["method"].startswith("DySpec") for row in best.values()),
            )
        )
        follow = [row["depth follows yield"] for row in level]
        found.append(
            Claim(
                "trees are deeper where more of them is accepted",
                "the tree adapts to each query",
                ", ".join(f"{value:.2f}" for value in follow if value is not None)
                + " correlation over prompts (threshold)",
                all(value is not None and value > 0 for value in follow),
            )
        )
    return found
