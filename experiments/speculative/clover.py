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

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.speculative.drafters.heads import DraftHeads, Heads
from algorithms.speculative.drafters.nucleus import Nucleus
from algorithms.speculative.verifiers.match import Match
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Field, agreement, decode_field, pass_seconds
from experiments.speculative.trained_heads import HeadTraining, field_of, score, train
from jaxdecode.speculate import Speculator
from jaxdecode.train.frozen import Lesson
from models.heads.clover import Clover
from models.heads.files import load
from models.heads.medusa import Medusa

KINDS: dict[str, dict[str, Any]] = {
    "none": {"augment": "none", "connection": "none"},
    "block": {"connection": "none"},
    "block_and_connection": {"connection": "concat"},
    "clover": {},
    "attention_only": {"augment": "attention"},
    "mlp_only": {"augment": "mlp"},
}
ORDER = ("none", "block", "block_and_connection", "clover")
LESSON = Lesson(hard=1.0, decay=0.8)
TRAINING = HeadTraining()


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      heads: of every kind.
      kinds: of `KINDS`, trained and scored.
      sizes: most tokens of a tree; the paper's is 4.
      batches: sizes at which passes are timed.
      training: of the heads.
      target, questions, clover, medusa: folders and a file for the published setting.
    """

    prompts: int = 16
    max_tokens: int = 48
    batch: int = 16
    heads: int = 3
    kinds: tuple[str, ...] = tuple(KINDS)
    sizes: tuple[int, ...] = (1, 4, 16)
    batches: tuple[int, ...] = (1, 4, 16, 64)
    training: HeadTraining = TRAINING
    target: str | None = None
    questions: Path | None = None
    clover: str | None = None
    medusa: str | None = None
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        prompts=2,
        max_tokens=12,
        batch=2,
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


def head_cost(field: Field, head: DraftHeads, guesses: float) -> float:
    """Of a step, in passes of the target over one token, by parameters."""
    spent = guesses * head.guessing.parameters + head.absorbing.parameters
    return spent / field.target.cost.parameters


def measure(config: Config, field: Field, head: DraftHeads, size: int, plain) -> dict[str, Any]:
    """Decode the prompts with trees of at most `size` tokens."""
    drafter = Heads(head, Nucleus(size))
    decoder = Autoregressive(Speculator(field.generator(), drafter, Match()))
    found = decode_field(field, decoder, config.batch, config.seed)
    guesses = float(found.draft_tokens.sum() / found.passes.sum())
    return {
        "extra": found.per_call - 1,
        "tree": float(found.drafted.sum() / found.passes.sum()),
        "head_cost": head_cost(field, head, guesses),
        "same_text": agreement(found, plain),
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
    return Report(claims(config, rows), rows, seconds=finished.seconds)


def passes(field: Field, batch: int, size: int) -> dict[str, float]:
    """T(size + 1) / T(1) at a batch size."""
    seconds = pass_seconds(field.target, (1, size + 1), batch)
    return {"verify": seconds[size + 1] / seconds[1]}


def accuracies(
    config: Config, finished: Resumption, field: Field, heads: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row for each kind and head."""
    found = finished.row("accuracy", lambda: score(field.target, heads, LESSON, config.training))
    return [
        {
            "study": "accuracy",
            "kind": kind,
            "head": index + 1,
            "top1": found[f"{kind}/accuracy_{index}"],
            "top5": found[f"{kind}/top5_{index}"],
        }
        for kind in heads
        for index in range(config.heads)
    ]


def of(rows: list[dict[str, Any]], study: str, **fixed: Any) -> list[dict[str, Any]]:
    """The rows of a study."""
    wanted = {"study": study} | fixed
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def draw(config: Config, rows: list[dict[str, Any]]) -> None:
    """Accuracy by head, extra tokens by size, modelled speed-up by batch."""
    path = config.out and config.out / "figure.png"
    columns = 3 if config.kinds else 2
    with figure(path, columns=columns, width=3.8) as axes:
        if config.kinds:
            for kind in config.kinds:
                found = of(rows, "accuracy", kind=kind)
                label = {"none": "none (Medusa)"}.get(kind, kind.replace("_", " "))
                axes[0].plot(
                    [row["head"] for row in found], [row["top5"] for row in found], label=label
                )
            axes[0].set(xlabel="head", ylabel="top-5 accuracy", title="heads")
            axes[0].set_xticks(range(1, config.heads + 1))
            axes[0].set_ylim(0)  # room for the legend
            axes[0].legend(ncols=2, loc="lower center")
            axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        for kind, label in (("none", "Medusa"), ("clover", "Clover")):
            found = of(rows, "size", kind=kind)
            axes[-2].plot(
                [row["size"] for row in found], [row["extra"] for row in found], label=label
            )
            found = of(rows, "batch", kind=kind)
            at, values = [row["batch"] for row in found], [row["speed_up"] for row in found]
            axes[-1].plot(at, values, label=label)
        axes[-2].set_xscale("log", base=2)
        axes[-2].set(xlabel="most tokens of a tree", ylabel="extra tokens a step", title="trees")
        axes[-1].set_xscale("log", base=2)
        axes[-1].axhline(1.0, color="black", linewidth=0.8)
        axes[-1].set(xlabel="batch", ylabel="times plain decoding", title="modelled speed-up")


def claims(config: Config, rows: list[dict[str, Any]]) -> list[Claim]:
    """By rules fixed before measuring."""
    found = []
    there = [kind for kind in ORDER if kind in config.kinds]
    if len(there) > 1:
        top = {kind: [r["top5"] for r in of(rows, "accuracy", kind=kind)] for kind in there}
        means = {kind: float(np.mean(values)) for kind, values in top.items()}
        found.append(
            Claim(
                "top-5 accuracy over all heads rises with each addition",
                "block, connection and decoder together give 11.7 to 26.4 points",
                ", ".join(f"{kind} {value:.3f}" for kind, value in means.items()),
                all(a < b for a, b in pairwise(means.values())),
            )
        )
        gain = [b - a for a, b in zip(top[there[0]], top[there[-1]], strict=True)]
        found.append(
            Claim(
                "the gain over Medusa grows with the place a head guesses",
                "11.7, 20.3, 26.4 points",
                ", ".join(f"{100 * value:+.1f}" for value in gain),
                all(a < b for a, b in pairwise(gain)),
            )
        )
    pairs = {
        size: [of(rows, "size", kind=kind, size=size)[0]["extra"] for kind in ("none", "clover")]
        for size in config.sizes
    }
    found.append(
        Claim(
            "Clover yields more extra tokens a step than Medusa with the same trees",
            "50 to 76 % more",
            ", ".join(f"{size}: {b:.2f} against {a:.2f}" for size, (a, b) in pairs.items()),
            all(b > a for a, b in pairs.values()),
        )
    )
    if len(config.sizes) > 1:
        grows = [extra for _, extra in pairs.values()]
        found.append(
            Claim(
                "extra tokens grow with the tree, ever more slowly",
                "about linear in the logarithm of its size",
                ", ".join(f"{size}: {extra:.2f}" for size, (_, extra) in pairs.items()),
                all(a < b for a, b in pairwise(grows)),
            )
        )
    if len(config.batches) > 1:
        speeds = {row["batch"]: row["speed_up"] for row in of(rows, "batch", kind="clover")}
        found.append(
            Claim(
                "what speculation gains shrinks as the batch grows",
                "1.91 times at batch 4, below 1 at batch 32 to 48 (7B)",
                ", ".join(f"{batch}: {value:.2f}" for batch, value in speeds.items()),
                speeds[config.batches[-1]] < speeds[config.batches[0]],
            )
        )
    same = float(np.mean([row["same_text"] for row in of(rows, "size")]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found
