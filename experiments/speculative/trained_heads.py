"""Heads trained side by side on one frozen target, for experiments that compare kinds of them.

All see the same batches and one reading of the target, so that what differs is the heads. Runs
are short: enough to rank the kinds, and far from what a shipped head is given. A run that was
stopped goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from experiments import zoo
from experiments.inputs.sources import bound
from experiments.speculative.speculation import Field, open_field, questioned
from experiments.tasks.batches import WindowBatches
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.frozen import Lesson, read, taught
from jaxdecode.types import Array
from models.heads.files import load
from models.transformer import Transformer

HELD_OUT = 4  # batches


@dataclass(frozen=True)
class HeadTraining:
    """How long heads are trained: AdamW, cosine decay from `peak`, batches of rows x width."""

    steps: int = 150
    rows: int = 4
    width: int = 128
    peak: float = 3e-3


class TrainedHeads(nnx.Module):
    """Heads by name."""

    def __init__(self, heads: Mapping[str, Any]) -> None:
        self.heads = nnx.Dict(dict(heads))


@dataclass(frozen=True)
class Together:
    """The sum of a lesson's losses over all heads; metrics are `name/metric_i`."""

    lesson: Lesson

    def __call__(
        self,
        heads: TrainedHeads,
        target: Transformer,
        tokens: Array,
        loss_mask: Array,
        length: Array,
    ) -> tuple[Array, dict[str, Array]]:
        valid = jnp.arange(tokens.shape[1]) < length[:, None]
        reading = read(target, tokens, valid, self.lesson.layers)
        total, metrics = jnp.zeros(()), {}
        for name, head in heads.heads.items():
            exits = head.teach(target, reading)
            loss, own = self.lesson.grade(exits, reading, loss_mask & valid)
            total = total + loss
            metrics |= {f"{name}/{key}": value for key, value in own.items()}
        return total, metrics


Text = Callable[[Split], NDArray[np.int32]]


def library(split: Split) -> NDArray[np.int32]:
    """The standard library's source as the zoo's target reads it."""
    return StandardLibrary().tokens(zoo.load("stdlib").tokenizer, split)


def windows(
    text: NDArray[np.int32], how: HeadTraining, seed: int
) -> Callable[[int], dict[str, Any]]:
    """Batches of windows of a text."""
    stream = WindowBatches(text, zoo.load("stdlib").tokenizer, how.rows, how.width, seed)
    return lambda step: stream(step)._asdict()


def train(
    target: Transformer,
    heads: Mapping[str, Any],
    lesson: Lesson,
    how: HeadTraining,
    folder: Path | None,
    text: Text = library,
    watch: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:
    """The heads, trained side by side; checkpoints lie in `folder`, where it is given."""
    if not heads:
        return {}
    where = None if folder is None else Checkpoints(folder, max(how.steps // 2, 1))
    rate = optax.cosine_decay_schedule(how.peak, how.steps, 0.05)
    trained = fit(
        TrainedHeads(heads),
        Together(lesson),
        taught(windows(text("train"), how, 21), lambda: target),
        optax.chain(optax.clip_by_global_norm(1.0 * len(heads)), optax.adamw(rate, b2=0.98)),
        how.steps,
        where,
        lambda step, means: watch(step),
        max(how.steps // 10, 1),
    )
    return dict(trained.heads.items())


def score(
    target: Transformer, heads: Mapping[str, Any], lesson: Lesson, how: HeadTraining
) -> dict[str, float]:
    """Means of all metrics over a few batches of held-out files."""
    run, batch = jax.jit(Together(lesson)), windows(library("validation"), how, 22)
    trained = TrainedHeads(heads)
    found = [run(trained, target, **batch(step))[1] for step in range(HELD_OUT)]
    return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}


def field_of(prompts: int, max_tokens: int, target: str | None, questions: Path | None) -> Field:
    """Held-out source for the zoo's target, or questions for a checkpoint by folder.

    Raises:
      ValueError: if only one of the paths is given.
    """
    if target is None and questions is None:
        return open_field("stdlib", prompts, max_tokens)
    if target is None or questions is None:
        raise ValueError(f"target={target}, questions={questions}: give both, or none")
    return questioned(questions, prompts, max_tokens, target, target)


def head_of(kind: type, name: str, folder: str | None, field: Field) -> Any:
    """The head in a folder, or the zoo's; None where the zoo has none."""
    if folder is not None:
        return bound(load(kind, folder, field.target))
    return bound(zoo.load(name).model) if name in zoo.names() else None
