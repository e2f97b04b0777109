"""RSD: draft trees without replacement, at equal depth and at equal size.

Claim (Jeon et al. 2024, arXiv 2402.14160): trees whose siblings never repeat, of constant
branching (RSD-C) or by stochastic beam search (RSD-S), yield more tokens for each pass of the
target than a chain (SD) and than independent drafts (SpecTr), always where all have the same
draft length, and in most cases where the target verifies equally many nodes.

    python -m experiments rsd --preset cpu

The zoo's target and draft of the standard library's source, held-out prompts, two temperatures.
At equal length L all trees have the same number of sequences; at equal budget each method has
its published kind of shape: SD a chain, SpecTr and RSD-S K sequences, RSD-C factors, of which
the best is reported. Both models have the same temperature. About 3 minutes on two cores.

To expect: at the low temperature RSD above SpecTr above SD, for independent drafts repeat one
another; at temperature 1 they rarely do, and K-SEQ makes up for it: what separates RSD from
SpecTr there is below the standard error of these runs, 0.03-0.1 tokens a pass. Long chains fall
behind.

MBSU, memory-bound speed-up = tokens a pass / (1 + r * draft passes), r the ratio of the models'
parameters, counts sequential passes of the draft model and not its nodes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.rsd.figure import draw
from experiments.speculative.rsd.findings import claims
from experiments.speculative.rsd.setting import Config, repeats, studies
from experiments.speculative.speculation import Field
from experiments.speculative.trees import Pair, field_of, speed_up

PRESETS = {
    "smoke": Config(
        prompts=8,
        max_tokens=16,
        batch=8,
        temperatures=(1.0,),
        lengths=(2,),
        shapes=(),
        methods=("SpecTr", "RSD-S"),
    ),
    "cpu": Config(),
    # The published setting. Give the folders and the prompts:
    #   --config.target DIR --config.draft DIR --config.questions question.jsonl
    "paper": Config(
        prompts=1000,
        max_tokens=128,
        batch=8,
        lengths=(2, 3, 4, 5),
        shapes=(
            (6, (2, 2), 2),
            (6, (2, 1, 1), 3),
            (10, (2, 2, 1), 2),
            (10, (2, 2, 1), 5),
            (14, (2, 2, 2), 7),
            (14, (2, 2, 2), 2),
            (21, (3, 2, 2), 7),
            (21, (3, 2, 2), 3),
            (30, (2, 2, 2, 2), 6),
            (30, (2, 2, 2, 2), 10),
        ),
        target="",
        draft="",
        questions=Path("question.jsonl"),
    ),
}


def run(config: Config) -> Report:
    """Both studies, on the same prompts."""
    field = field_of(
        config.prompts, config.max_tokens, config.target, config.draft, config.questions
    )
    return study(config, field)


def study(config: Config, field: Field) -> Report:
    """`run`, on the field that is given."""
    pair = Pair(field, config.temperatures[0], config.batch, config.seed)
    ratio = field.draft.cost.parameters / field.target.cost.parameters
    runs = studies(config)
    rows: list[dict[str, Any]] = []
    with Resumption(config) as finished, Progress("rsd", len(runs)) as progress:
        for key, make in runs:
            name = ", ".join(f"{name} {value}" for name, value in key.items())
            here = replace(pair, temperature=key["temperature"])
            found = finished.row(name, lambda make=make, here=here: here.measure(make(here)))
            mbsu = speed_up(found["tokens_per_call"], found["draft_passes"], ratio)
            rows.append(key | found | {"MBSU": mbsu, "ratio": ratio})
            progress.advance(note=name)
        distinct = [
            {"study": "distinct", "temperature": temperature}
            | finished.row(
                f"distinct at {temperature}",
                lambda t=temperature: {
                    "tokens": repeats(replace(pair, temperature=t), config.width)
                },
            )
            for temperature in config.temperatures
        ]
    draw(config, rows)
    return Report.of(claims, config, [*rows, *distinct], seconds=finished.seconds)
