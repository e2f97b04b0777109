"""RASD: retrieved continuations, pruned by the drafter's law and fused with its tree.

Claims (Quan et al. 2025, arXiv 2503.03434): fused drafts are accepted longer than those of the
drafter alone and of retrieval alone, with retrieval from a corpus (REST) and from the text
itself (prompt lookup); most where the drafter is out of its domain; pruning by the drafter and
fusing by longest prefix match both matter.

    python -m experiments rasd --preset cpu

The target is the zoo's model of the standard library's source. Two EAGLE heads draft for it: the
shipped one, and one trained here on arithmetic, for which source is out of its domain. Two
tasks, greedy: "code" continues held-out files, with the train files as the corpus; "quote"
continues a passage whose beginning is repeated, so that the answer stands in the prompt. No text
that is to be written is in the corpus. All methods verify the same most nodes. About 3 minutes on
two cores. `MAT` are tokens for each pass of the target, its own included. To expect: with the
head in its domain RASD is above both parents; the other head knows so little of source that it
prunes what retrieval has right, and RASD without pruning is best with it.

Published setting: give a checkpoint, questions, and an EAGLE head that `models.heads.files` wrote;
retrieval is from the text itself.

    --preset paper --config.target DIR --config.questions question.jsonl --config.head DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.rasd.figure import draw
from experiments.speculative.rasd.findings import claims
from experiments.speculative.rasd.setting import (
    LESSON,
    Config,
    field_for,
    measure,
    methods,
    source_for,
    sums,
)
from experiments.speculative.speculation import decode_field
from experiments.speculative.trained_heads import HeadTraining, head_of, train
from models.heads.eagle import Eagle

PRESETS = {
    "smoke": Config(
        prompts=3,
        max_tokens=12,
        batch=3,
        tasks=("quote",),
        heads=("in domain",),
        width=2,
        length=2,
        nodes=6,
        extra=3,
        ablations=False,
        training=HeadTraining(steps=2, rows=2, width=32),
    ),
    "cpu": Config(),
    "paper": Config(
        prompts=480,
        max_tokens=1024,
        batch=1,
        tasks=("questions",),
        heads=("in domain",),
        width=10,
        length=6,
        nodes=75,
        extra=16,
        target="",
        questions=Path("question.jsonl"),
        head="",
    ),
}


def run(config: Config) -> Report:
    """Every method on every task with every head."""
    base = field_for(config, config.tasks[0])
    own = head_of(Eagle, "stdlib-eagle", config.head, base)
    if own is None:
        raise ValueError("head: the zoo has no 'stdlib-eagle'; give a folder")
    heads = {"in domain": own}
    if "out of domain" in config.heads:
        fresh = Eagle.of(base.target, rngs=nnx.Rngs(config.seed))
        folder = None if config.out is None else config.out / "heads"
        taught = train(base.target, {"eagle": fresh}, LESSON, config.training, folder, sums)
        heads["out of domain"] = taught["eagle"]
    runs = len(config.tasks) * len(config.heads) * (5 if config.ablations else 3)
    rows: list[dict[str, Any]] = []
    with Resumption(config) as finished, Progress("rasd", runs) as progress:
        for task in config.tasks:
            field = field_for(config, task)
            plain = decode_field(field, field.plain(), config.batch, config.seed)
            source = source_for(config, task, field)
            for domain in config.heads:
                for method, make in methods(config, field, source, heads[domain]).items():
                    key = {"task": task, "drafter": domain, "method": method}
                    # Retrieval alone has no head: it is run once.
                    name = f"{task}, {'' if method == 'retrieval' else domain}, {method}"
                    row = finished.row(
                        name,
                        lambda make=make, field=field, plain=plain: measure(
                            config, field, plain, make()
                        ),
                    )
                    rows.append(key | row)
                    progress.advance(note=name)
    draw(config, rows)
    return Report.of(claims, config, rows, seconds=finished.seconds)
