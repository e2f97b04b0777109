"""Kangaroo: the target's own first layers draft, and stop where they are unsure.

Claims (Liu et al. 2024, arXiv 2404.18911): the deeper the exit, the more tokens a round yields,
but the speed-up has its best in between; drafting on regardless of confidence is slower than
stopping; an adapter of attention alone is worth more than an MLP, and a full layer is not worth
what it costs; the text is plain decoding's.

    python -m experiments kangaroo --preset cpu

One target of 8 layers; one adapter for each exit and each variant, trained side by side on the
target's own laws for a minute; held-out prompts, greedy. The threshold is varied on the shipped
adapter where there is one. About 3 minutes on two cores. `CR` is the mean of tokens a round, the
target's own included, and `CTAR(w)` the share of rounds with more than w. The modelled speed-up
counts a round as (K + 1) l / L + K c + (L - l) / L passes of the target, K its mean drafts, c
adapter and output matrix by parameters: verifying is as fast as one step. To expect: every exit
yields more tokens the deeper it is, and the shallow ones about pay for themselves; the adapter's
kind makes little difference after so short a training.

Published setting: give a checkpoint, questions, and an adapter that `models.heads.files` wrote:

    --preset paper --config.target DIR --config.questions question.jsonl --config.adapter DIR
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax import nnx

from experiments.harness.progress import Progress
from experiments.harness.report import Report, Resumption
from experiments.speculative.kangaroo.figure import draw
from experiments.speculative.kangaroo.findings import claims
from experiments.speculative.kangaroo.setting import Config, confidences, measure
from experiments.speculative.speculation import decode_field
from experiments.speculative.trained_heads import (
    HeadTraining,
    field_of,
    head_of,
    train,
)
from jaxdecode.train.frozen import Lesson
from models.heads.kangaroo import Kangaroo

VARIANTS: dict[str, dict[str, Any]] = {
    "adapter": {},
    "own head": {"own_head": True},
    "full layer": {"kind": "layer"},
    "MLP": {"kind": "mlp"},
    "no adapter": {"kind": "none"},
}
PRESETS = {
    "smoke": Config(
        prompts=3,
        max_tokens=12,
        batch=3,
        exits=(),
        variants=(),
        lengths=(3,),
        thresholds=(0.0, 0.6),
        training=HeadTraining(steps=2, rows=2, width=32),
    ),
    "cpu": Config(),
    "paper": Config(
        prompts=480,
        max_tokens=1024,
        batch=1,
        exits=(),
        variants=(),
        lengths=(6, 4, 8),
        target="",
        questions=Path("question.jsonl"),
        adapter="",
    ),
}


def run(config: Config) -> Report:
    """Adapters by exit and by variant, then thresholds."""
    field = field_of(config.prompts, config.max_tokens, config.target, config.questions)
    shipped = head_of(Kangaroo, "stdlib-kangaroo", config.adapter, field)
    settings: dict[str, dict[str, Any]] = {
        f"exit_{exit}": {"layers": exit} for exit in config.exits
    }
    for name in config.variants:
        settings[name.replace(" ", "_")] = {"layers": config.variant_exit, **VARIANTS[name]}
    if shipped is None:
        settings["shipped"] = {"layers": config.variant_exit}
    heads = {
        name: Kangaroo.of(field.target, rngs=nnx.Rngs(config.seed), **setting)
        for name, setting in settings.items()
    }
    layers = tuple(sorted({head.layers for head in heads.values()}))
    lesson = Lesson(soft=1.0, layers=layers)
    steps = len(heads) + len(config.lengths) * len(config.thresholds) + 2
    rows: list[dict[str, Any]] = []
    with Resumption(config) as finished, Progress("kangaroo", steps) as progress:
        folder = None if config.out is None else config.out / "heads"
        heads = train(field.target, heads, lesson, config.training, folder)
        shipped = heads.pop("shipped", shipped)
        progress.advance(note="adapters trained")
        plain = decode_field(field, field.plain(), config.batch, config.seed, timed=True)
        length = config.lengths[0]

        def add(key: dict[str, Any], head: Kangaroo, length: int, threshold: float) -> None:
            name = ", ".join(str(value) for value in key.values())
            row = finished.row(name, lambda: measure(config, field, plain, head, length, threshold))
            rows.append(key | row)
            progress.advance(note=name)

        for name, head in heads.items():
            exits = name.startswith("exit_")
            shown = "adapter" if exits else name.replace("_", " ")
            key = {"study": "exit" if exits else "variant", "drafter": shown}
            add(key | {"layers": head.layers, "length": length}, head, length, 0.6)
        for length in config.lengths:
            for threshold in config.thresholds:
                key = {"study": "threshold", "drafter": "adapter", "layers": shipped.layers}
                key |= {"length": length, "threshold": threshold}
                add(key, shipped, length, threshold)
        confidence = finished.row("confidence", lambda: confidences(config, field, shipped))
        progress.advance(note="confidence")
    draw(config, rows, confidence)
    evidence = {"rows": rows, "confidence": confidence}
    return Report.of(claims, config, evidence, rows, finished.seconds)
