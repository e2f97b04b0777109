"""A recipe: everything that makes one shipped model, as data and two functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.tasks.batches import Batch
from experiments.tasks.tokenizer import TaskTokenizer
from experiments.zoo.skills.skill import Skills
from jaxdecode.train.fit import Loss

Batches = Callable[[], Callable[[int], Mapping[str, Any]]]
Score = Callable[[Any], dict[str, float]]
Able = Callable[[Any], Skills]
HELD_OUT_STEPS = 4


@dataclass(frozen=True)
class Recipe:
    """How one model of the zoo is made.

    Attributes:
      name: folder of its weights.
      kind: "generator", "denoiser", "reward", or "head": no model without its target.
      about: one sentence for the card.
      tokenizer: the vocabulary, shared by a family.
      create: a fresh model from a seed.
      loss: see `jaxdecode.train.losses`.
      batches: step -> the loss's arguments, training split.
      score: the trained model's held-out scores, by name.
      skills: what the trained model can do on data it has not seen, kind by kind.
      steps, peak: length and peak learning rate of the run.
      again: (steps, peak) of further rounds, each with a rate that rises and falls anew and a
        fresh optimiser; batches go on where the round before stopped.
      hold: steps of the first round that are run at the rates of a run of `horizon` steps, before
        the rate falls by a cosine over what is left; 0 for one cosine over all steps.
      stored: dtype of the weights on disk; they are scored as stored, and loaded as float32.
      target: the shipped model that it serves, frozen while this one trains; a head's own.
      mask_id: a denoiser's mask.
    """

    name: str
    kind: str
    about: str
    tokenizer: Callable[[], TaskTokenizer]
    create: Callable[[nnx.Rngs], Any]
    loss: Loss
    batches: Batches
    score: Score
    skills: Able
    steps: int
    peak: float = 3e-3
    again: tuple[tuple[int, float], ...] = ()
    hold: int = 0
    horizon: int = 0
    seed: int = 0
    stored: str = "float32"
    target: str | None = None
    mask_id: int | None = None

    @property
    def rounds(self) -> list[Recipe]:
        """Each as the recipe of one round."""
        made: list[Recipe] = [replace(self, again=())]
        done = self.steps
        for steps, peak in self.again:
            later = replace(
                self, steps=steps, peak=peak, again=(), hold=0, batches=self._from(done)
            )
            made, done = [*made, later], done + steps
        return made

    @property
    def total(self) -> int:
        """Steps of all rounds."""
        return self.steps + sum(steps for steps, _ in self.again)

    def _from(self, first: int) -> Batches:
        def batches() -> Callable[[int], Mapping[str, Any]]:
            stream = self.batches()
            return lambda step: stream(first + step)

        return batches

    def rate(self) -> optax.Schedule:
        """5 % warm-up, then a cosine to a twentieth."""

        def cosine(steps: int) -> optax.Schedule:
            warm = max(1, steps // 20)
            return optax.warmup_cosine_decay_schedule(0.0, self.peak, warm, steps, self.peak / 20)

        if not self.hold:
            return cosine(self.steps)
        held, rest = cosine(self.horizon), self.steps - self.hold
        top = np.asarray(held(self.hold)).item()
        fall = optax.cosine_decay_schedule(top, rest, self.peak / 20 / top)
        return optax.join_schedules([held, fall], [self.hold])

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW under a clipped gradient, at the rate of the step."""
        return optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(self.rate(), b2=0.98, weight_decay=0.01)
        )


def as_dict(stream: Callable[[int], Batch]) -> Callable[[int], Mapping[str, Any]]:
    """Batches by the names that `next_token` gives its arguments."""
    return lambda step: stream(step)._asdict()


def held_out(loss: Loss, batches: Batches) -> Score:
    """Mean loss and metrics over a few validation batches."""

    def score(model: Any) -> dict[str, float]:
        run, stream = jax.jit(loss), batches()
        seen = []
        for step in range(HELD_OUT_STEPS):
            value, metrics = run(model, **stream(step))
            seen.append({"loss": value, **metrics})
        means = jax.tree.map(lambda *values: float(jnp.mean(jnp.stack(values))), *seen)
        return {name: round(value, 4) for name, value in means.items()}

    return score
