"""DySpec: a tree grown by the draft's own probabilities against trees of fixed shape.

Claim (Xiong et al. 2025, arXiv 2410.11744): whether a drafted token is accepted goes with its
draft probability, so a tree grown greedily by it has more tokens accepted for each pass of the
target than Sequoia's best static tree of the same size, and that more than SpecInfer's
independent sequences, at all temperatures; level by level, with a threshold, it needs a pass of
the draft model for each level only and not for each node.

    python -m experiments dyspec --preset cpu

The zoo's target and draft of the standard library's source, held-out prompts; the draft has
temperature 0.6. Sequoia's chances are measured on prompts of the validation split, its shape is
the best of that many nodes. SpecInfer's sequences are at most 8 tokens long. The threshold is
one over the budget. About 4 minutes on two cores.

To expect: acceptance rising with draft probability; at temperature 0 DySpec a sixth ahead of
Sequoia; at 0.6 the trees apart by less than the standard error, 0.06-0.12 tokens a pass. The
draft is unsure enough here for its threshold to fill the tree in two or three levels.

The modelled speed-up takes R passes of the draft model for the time of one of the target,
whatever that verifies, as where a large target is streamed from the host's memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.dyspec.figure import draw
from experiments.speculative.dyspec.findings import claims
from experiments.speculative.dyspec.setting import RATIOS, Config, estimate, measure, speculators
from experiments.speculative.speculation import Field
from experiments.speculative.trees import Pair, field_of, speed_up

PRESETS = {
    "smoke": Config(
        prompts=8,
        max_tokens=12,
        batch=8,
        budgets=(8,),
        temperatures=(0.6,),
        methods=("SpecInfer", "DySpec, threshold"),
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions question.jsonl
    "paper": Config(
        prompts=1000,
        max_tokens=128,
        batch=1,
        budgets=(64, 768),
        temperatures=(0.0, 0.6),
        target="",
        draft="",
        questions=Path("question.jsonl"),
    ),
}


def run(config: Config) -> Report:
    """The estimate, then every method at every budget and temperature."""
    field = field_of(
        config.prompts, config.max_tokens, config.target, config.draft, config.questions, "test"
    )
    calibration = field_of(64, 1, config.target, config.draft, config.questions, "validation")
    return study(config, field, calibration)


def study(config: Config, field: Field, calibration: Field) -> Report:
    """`run`, on the field that is given, with Sequoia's chances measured on another."""
    first = Pair(field, config.temperatures[0], config.batch, config.seed)
    todo = [
        (replace(first, temperature=temperature), budget)
        for temperature in config.temperatures
        for budget in (config.budgets if temperature == first.temperature else config.budgets[-1:])
    ]
    rows: list[dict[str, Any]] = []
    steps = len(todo) * len(config.methods) + 1
    with Resumption(config) as finished, Progress("dyspec", steps) as progress:
        estimates = finished.row("estimate", lambda: {"rows": estimate(first)})["rows"]
        progress.advance(note="estimate")
        for pair, budget in todo:
            for method, speculator in speculators(config, pair, calibration, budget).items():
                name = f"{method}, budget {budget}, temperature {pair.temperature}"
                found = finished.row(name, lambda pair=pair, s=speculator: measure(pair, s))
                modelled = {
                    f"modelled at R = {ratio}": speed_up(
                        found["tokens_per_call"], found["draft_passes"], 1 / ratio
                    )
                    for ratio in RATIOS
                }
                key = {"method": method, "temperature": pair.temperature, "budget": budget}
                rows.append(key | found | modelled)
                progress.advance(note=name)
    draw(config, rows, estimates)
    return Report.of(claims, config, [*rows, *estimates], seconds=finished.seconds)
