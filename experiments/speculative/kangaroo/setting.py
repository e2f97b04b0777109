"""The setting of the experiment on Kangaroo: early exits, decoded and priced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.speculative.kangaroo import kangaroo
from experiments.harness.report import Out, Seed
from experiments.speculative.speculation import Counts, Field, agreement, decode_field
from experiments.speculative.trained_heads import (
    HeadTraining,
    library,
    windows,
)
from jaxdecode.plain import Autoregressive
from jaxdecode.train.frozen import read
from models.heads.kangaroo import Kangaroo

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


def rates(histogram: np.ndarray) -> tuple[float, list[float]]:
    """CR and CTAR(1), CTAR(2), ... of rounds that accepted 0, 1, ... drafts."""
    share = histogram / histogram.sum()
    emitted = np.arange(1, len(share) + 1)
    return float(share @ emitted), [float(share[w:].sum()) for w in range(1, len(share))]


def draft_cost(field: Field, head: Kangaroo) -> float:
    """Of a drafted token, in passes of the target: the first layers, adapter and output matrix."""
    shallow = head.layers / field.target.config.layers
    return shallow + head.cost.parameters / field.target.cost.parameters


def speed_up(field: Field, head: Kangaroo, found: Counts) -> float:
    """Modelled; see the module. What a round runs beside its drafts is one pass of the target."""
    drafts = float(found.drafted.sum() / found.passes.sum())
    return found.per_call / (1 + drafts * draft_cost(field, head))


def measure(
    config: Config, field: Field, plain: Counts, head: Kangaroo, length: int, threshold: float
) -> dict[str, Any]:
    """Decode the prompts."""
    decoder = Autoregressive(kangaroo(field.generator(), head, length, threshold))
    found = decode_field(field, decoder, config.batch, config.seed, timed=True)
    _, tails = rates(found.histogram)
    return {
        "CR": found.per_call,
        "drafts": float(found.drafted.sum() / found.passes.sum()),
        "speed_up": speed_up(field, head, found),
        "draft_cost": draft_cost(field, head),
        "measured": plain.seconds / found.seconds,
        "same_text": agreement(found, plain),
        "CTAR": tails,
        "by prompt": found.by_prompt(),
    }


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
        "by text": {
            f"{name} {where}": value
            for where, mask in (("agreeing", agrees), ("elsewhere", ~agrees))
            for name, value in (("sum", (sure * mask).sum(axis=1)), ("count", mask.sum(axis=1)))
        },
        "means": [float(sure[mask].sum() / max(mask.sum(), 1)) for mask in (agrees, ~agrees)],
    }
