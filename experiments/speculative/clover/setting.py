"""The setting of the experiment on Clover."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.report import Out, Seed
from experiments.speculative.trained_heads import HeadTraining
from jaxdecode.train.frozen import Lesson

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
