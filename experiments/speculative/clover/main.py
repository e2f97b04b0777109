"""Clover: heads that are shown what was guessed before them, in trees of few tokens.

Claims (Xiao et al. 2024, arXiv 2405.00263): each of the augmenting block, the regressive
connection and the attention decoder makes heads more accurate, the more so the further ahead
they guess; with the same tree builder Clover yields more extra tokens a step than Medusa at
every tree size; extra tokens grow with the logarithm of the size; what speculation gains shrinks
as the batch grows.

    python -m experiments clover --preset cpu

All kinds of heads are trained side by side on one frozen target for a minute, with the target's
output matrix; "none" is Medusa. Accuracies are on held-out files, shown the true tokens before;
extra tokens a step are those beyond the target's own, greedy, on held-out prompts. The modelled
speed-up at a batch size is tokens a pass / (T(tree + 1) / T(1) + what the heads cost), T measured
on this machine at that batch size and the heads' cost by their parameters. About 3 minutes on
two cores. To expect: after a minute of training all heads are weak, and those of Clover the
better for it at every tree size; a plain linear map of hidden state and token learns faster than
the attention decoder, so that the paper's order does not show in full; and the output matrix is
so large a part of this target that heads cost more than they save at any batch size.

Published setting: give a checkpoint, questions, and heads that `models.heads.files` wrote:

    --preset paper --config.target DIR --config.questions question.jsonl
    --config.clover DIR --config.medusa DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.clover.figure import draw
from experiments.speculative.clover.findings import claims, of
from experiments.speculative.clover.measures import accuracies, measure, passes
from experiments.speculative.clover.setting import KINDS, LESSON, Config
from experiments.speculative.speculation import decode_field
from experiments.speculative.trained_heads import HeadTraining, field_of, train
from models.heads.clover import Clover
from models.heads.files import load
from models.heads.medusa import Medusa

PRESETS = {
    "smoke": Config(
        prompts=3,
        max_tokens=12,
        batch=3,
        kinds=("none", "clover"),
        sizes=(4,),
        batches=(),
        training=HeadTraining(steps=2, rows=2, width=32),
    ),
    "cpu": Config(),
    "paper": Config(
        prompts=480,
        max_tokens=1024,
        batch=4,
        kinds=(),
        sizes=(1, 2, 4, 8, 16, 32),
        batches=(4, 8, 16, 24, 32, 48),
        target="",
        questions=Path("question.jsonl"),
        clover="",
        medusa="",
    ),
}


def run(config: Config) -> Report:
    """Accuracy by kind, extra tokens by size, and what is left of it by batch."""
    field = field_of(config.prompts, config.max_tokens, config.target, config.questions)
    rows: list[dict[str, Any]] = []
    runs = 2 * len(config.sizes) + len(config.batches) + 2
    with Resumption(config) as finished, Progress("clover", runs) as progress:
        heads: dict[str, Any] = {
            kind: Clover.of(
                field.target, rngs=nnx.Rngs(config.seed), count=config.heads, **KINDS[kind]
            )
            for kind in config.kinds
        }
        folder = None if config.out is None else config.out / "heads"
        heads = train(field.target, heads, LESSON, config.training, folder)
        progress.advance(note="heads trained")
        if heads:
            rows += accuracies(config, finished, field, heads)
        if config.clover is not None:
            heads["clover"] = load(Clover, config.clover, field.target)
        if config.medusa is not None:
            heads["none"] = load(Medusa, config.medusa, field.target)
        progress.advance(note="heads scored")
        plain = decode_field(field, field.plain(), config.batch, config.seed)
        for size in config.sizes:
            for kind in ("none", "clover"):
                found = finished.row(
                    f"{kind}, {size}",
                    lambda kind=kind, size=size: measure(config, field, heads[kind], size, plain),
                )
                rows.append({"study": "size", "kind": kind, "size": size} | found)
                progress.advance(note=f"{kind}, tree of {size}")
        size = 4 if 4 in config.sizes else config.sizes[0]
        for batch in config.batches:
            cost = finished.row(f"batch {batch}", lambda batch=batch: passes(field, batch, size))
            for row in of(rows, "size", size=size):
                modelled = (1 + row["extra"]) / (cost["verify"] + row["head_cost"])
                key = {"study": "batch", "kind": row["kind"], "size": size, "batch": batch}
                rows.append(key | {"verify": cost["verify"], "speed_up": modelled})
            progress.advance(note=f"batch {batch}")
    draw(config, rows)
    return Report.of(claims, config, rows, seconds=finished.seconds)
