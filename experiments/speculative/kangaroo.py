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

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from algorithms.sampling.autoregressive import Autoregressive
from algorithms.speculative.kangaroo import kangaroo
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.speculative.speculation import Counts, Field, agreement, decode_field
from experiments.speculative.trained_heads import (
    HeadTraining,
    field_of,
    head_of,
    library,
    train,
    windows,
)
from jaxdecode.train.frozen import Lesson, read
from models.heads.kangaroo import Kangaroo

VARIANTS: dict[str, dict[str, Any]] = {
    "adapter": {},
    "own head": {"own_head": True},
    "full layer": {"kind": "layer"},
    "MLP": {"kind": "mlp"},
    "no adapter": {"kind": "none"},
}


TRAINING = HeadTraining()


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      exits: layers after which the drafter exits.
      variant_exit: the exit at which variants and thresholds are compared.
      variants: of `VARIANTS`, besides the adapter itself.
      lengths: most drafts of a round, for the thresholds; the first serves all else.
      thresholds: confidences; the exits and variants are run at the paper's 0.6.
      training: of the adapters.
      target, questions, adapter: folders and a file for the published setting.
    """

    prompts: int = 16
    max_tokens: int = 48
    batch: int = 16
    exits: tuple[int, ...] = (0, 1, 2, 4, 6)
    variant_exit: int = 2
    variants: tuple[str, ...] = ("full layer", "MLP", "no adapter")
    lengths: tuple[int, ...] = (6, 4)
    thresholds: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)
    training: HeadTraining = TRAINING
    target: str | None = None
    questions: Path | None = None
    adapter: str | None = None
    seed: Seed = 0
    out: Out = None


PRESETS = {
    "smoke": Config(
        prompts=2,
        max_tokens=12,
        batch=2,
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


def rates(histogram: np.ndarray) -> tuple[float, list[float]]:
    """CR and CTAR(1), CTAR(2), ... of rounds that accepted 0, 1, ... drafts."""
    share = histogram / histogram.sum()
    emitted = np.arange(1, len(share) + 1)
    return float(share @ emitted), [float(share[w:].sum()) for w in range(1, len(share))]


def speed_up(field: Field, head: Kangaroo, found: Counts) -> float:
    """Modelled; see the module."""
    whole, exit = field.target.config.layers, head.layers
    drafts = float(found.drafted.sum() / found.passes.sum())
    adapter = head.cost.parameters / field.target.cost.parameters
    shallow = exit / whole
    return found.per_call / ((drafts + 1) * shallow + drafts * adapter + 1 - shallow)


def measure(
    config: Config, field: Field, plain: Counts, head: Kangaroo, length: int, threshold: float
) -> dict[str, Any]:
    """Decode the prompts."""
    decoder = Autoregressive(kangaroo(field.generator(), head, length, threshold))
    found = decode_field(field, decoder, config.batch, config.seed)
    _, tails = rates(found.histogram)
    return {
        "CR": found.per_call,
        "drafts": float(found.drafted.sum() / found.passes.sum()),
        "speed_up": speed_up(field, head, found),
        "measured": plain.seconds / found.seconds,
        "same_text": agreement(found, plain),
        "CTAR": tails,
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
        plain = decode_field(field, field.plain(), config.batch, config.seed)
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
    return Report(claims(config, rows, confidence), rows, seconds=finished.seconds)


def confidences(config: Config, field: Field, head: Kangaroo) -> dict[str, Any]:
    """The drafter's top probability on held-out text, where the target agrees and where not."""
    if config.target is not None:
        width = min(map(len, field.prompts))
        tokens = np.array([prompt[:width] for prompt in field.prompts])
    else:
        tokens = windows(library("validation"), replace(config.training, rows=8), 23)(0)["tokens"]

    @jax.jit
    def top(head, target, tokens):
        reading = read(target, tokens, jnp.ones(tokens.shape, bool), (head.layers,))
        (exit,) = head.teach(target, reading)
        law = jax.nn.softmax(exit.logits)
        agrees = jnp.argmax(law, axis=2) == jnp.argmax(reading.logits, axis=2)
        return jnp.max(law, axis=2), agrees

    sure, agrees = map(np.asarray, top(head, field.target, jnp.asarray(tokens)))
    bins = np.linspace(0, 1, 11)
    return {
        "accepted": np.histogram(sure[agrees], bins)[0].tolist(),
        "rejected": np.histogram(sure[~agrees], bins)[0].tolist(),
        "means": [float(sure[mask].sum() / max(mask.sum(), 1)) for mask in (agrees, ~agrees)],
    }


def of(rows: list[dict[str, Any]], study: str, **fixed: Any) -> list[dict[str, Any]]:
    """The rows of a study."""
    wanted = {"study": study} | fixed
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def draw(config: Config, rows: list[dict[str, Any]], confidence: dict[str, Any]) -> None:
    """CR and speed-up by exit and by threshold, and what confidence tells."""
    path = config.out and config.out / "figure.png"
    with figure(path, columns=3 if config.exits else 2, width=3.8) as axes:
        *first, middle, last = axes
        for axis in first:
            found = of(rows, "exit")
            exits = [row["layers"] for row in found]
            axis.plot(exits, [row["CR"] for row in found], label="tokens a round")
            axis.plot(exits, [row["speed_up"] for row in found], label="modelled speed-up")
            axis.set(xlabel="layers of the drafter", title="exit")
            axis.set_xticks(exits)
        for length in config.lengths:
            found = of(rows, "threshold", length=length)
            at = [row["threshold"] for row in found]
            middle.plot(at, [row["CR"] for row in found], label=f"tokens a round, {length}")
            middle.plot(at, [row["speed_up"] for row in found], label=f"speed-up, {length}")
        middle.set(xlabel="threshold", title="stopping (most drafts of a round)")
        middle.set_ylim(bottom=0)
        edges = np.linspace(0.05, 0.95, 10)
        for name, shift in (("accepted", -0.02), ("rejected", 0.02)):
            counts = np.array(confidence[name], float)
            last.bar(edges + shift, counts / max(counts.sum(), 1), width=0.04, label=name)
        last.set(xlabel="the drafter's top probability", ylabel="share", title="confidence")


def claims(config: Config, rows: list[dict[str, Any]], confidence: dict[str, Any]) -> list[Claim]:
    """By rules fixed before measuring."""
    found = []
    exits = of(rows, "exit")
    if exits:
        rate = [row["CR"] for row in exits]
        speeds = {row["layers"]: row["speed_up"] for row in exits}
        best = max(speeds, key=lambda exit: speeds[exit])
        shown = ", ".join(f"{row['layers']}: {row['CR']:.2f}" for row in exits)
        paper = "1.4, 2.0, 2.3, 2.6, 3.4 at 0, 2, 4, 8, 16 of 32 layers"
        risen = all(b > a for a, b in pairwise(rate))
        found.append(Claim("a deeper exit yields more tokens a round", paper, shown, risen))
        found.append(
            Claim(
                "the modelled speed-up is best at an exit in between",
                "2 of 32 layers, 1.50 times",
                ", ".join(f"{exit}: {value:.2f}" for exit, value in speeds.items()),
                best not in (config.exits[0], config.exits[-1]),
            )
        )
    for length in config.lengths[:1]:
        swept = of(rows, "threshold", length=length)
        rate = [row["CR"] for row in swept]
        speeds = {row["threshold"]: row["speed_up"] for row in swept}
        best = max(speeds, key=lambda threshold: speeds[threshold])
        found.append(
            Claim(
                "a higher threshold yields fewer tokens a round, and a better speed-up than none",
                "CR falls throughout; best at 0.6 to 0.7",
                f"CR {rate[0]:.2f} to {rate[-1]:.2f}; best {speeds[best]:.2f} at {best}, "
                f"{speeds[swept[0]['threshold']]:.2f} at {swept[0]['threshold']}",
                all(b <= a + 1e-9 for a, b in pairwise(rate)) and best > swept[0]["threshold"],
            )
        )
    variants = {row["drafter"]: row["speed_up"] for row in of(rows, "variant")}
    own = [row["speed_up"] for row in exits if row["layers"] == config.variant_exit]
    if variants and own:
        found.append(
            Claim(
                "attention alone is the best adapter by modelled speed-up",
                "1.50 against 1.37 (full layer) and 1.22 (MLP)",
                ", ".join(f"{k} {v:.2f}" for k, v in ({"adapter": own[0]} | variants).items()),
                own[0] > max(variants.values()),
            )
        )
    agreeing, other = confidence["means"]
    found.append(
        Claim(
            "confidence tells what will be accepted",
            "the accepted mass lies near 1",
            f"mean top probability {agreeing:.2f} where the target agrees, {other:.2f} elsewhere",
            agreeing > other + 0.2,
        )
    )
    same = float(np.mean([row["same_text"] for row in rows]))
    found.append(Claim("the text is plain decoding's", "lossless", f"{same:.1%} equal", same == 1))
    return found
