"""Teaching a draft its target's distribution, and what a draft is worth to that target.

A draft trained on its target's probabilities rather than on the text alone is accepted more
often (Zhou et al. 2024, DistillSpec, arXiv 2310.08461).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.zoo.recipe import Batches, Score, held_out
from jaxdecode.train.frozen import Exit, Lesson, Metrics, Reading, Target
from jaxdecode.train.losses import Forward, next_token
from jaxdecode.types import Array, Bool, Float, Int

SOFT = Lesson(soft=1.0)


@dataclass(frozen=True)
class Student:
    """A model of its own that predicts what the target does."""

    model: Forward

    def teach(self, target: Any, reading: Reading) -> tuple[Exit, ...]:
        logits, _ = self.model.forward(reading.tokens, reading.valid)
        return (Exit(logits, ahead=1),)


def distillation(
    model: Forward,
    target: Target,
    tokens: Int[Array, "B T"],
    loss_mask: Bool[Array, "B T"],
    length: Int[Array, "B"],
) -> tuple[Float[Array, ""], Metrics]:
    """Cross-entropy to the target's distributions, and the metrics of `Lesson`."""
    loss, metrics = SOFT(Student(model), target, tokens, loss_mask, length)
    return loss, {name.removesuffix("_0"): value for name, value in metrics.items()}


def worth(lessons: Batches, text: Batches) -> Score:
    """Held-out scores of a draft: beside the target, and the loss on the text itself."""
    beside, alone = held_out(distillation, lessons), held_out(next_token, text)
    return lambda model: beside(model) | {"text_loss": alone(model)["loss"]}
