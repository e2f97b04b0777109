"""The setting of the experiment on SpecDec++: a pair of models, and heads as they are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.lengths import Work
from algorithms.speculative.specdec_pp import Lesson, label, specdec_pp
from algorithms.speculative.verifiers.residual import Residual
from experiments.harness.report import Out, Seed
from experiments.speculative.trees import Pair, field_of
from jaxdecode.decoder import decode
from jaxdecode.plain import Autoregressive
from jaxdecode.speculate import Speculator
from jaxdecode.train.fit import fit
from jaxdecode.train.foresight import acceptance
from models.heads.acceptance import AcceptanceHead

WEIGHT, DEPTH, BEST = 6.0, 3, 0.7  # the published setting of w, D and h


@dataclass(frozen=True)
class Config:
    """What is decoded and what is trained.

    Attributes:
      prompts, max_tokens, batch: texts, their length, how many at a time.
      most: the longest draft; `least` of an adaptive one is 2, as published.
      lengths: fixed ones.
      thresholds: h, for the head of the published setting.
      few: h for all other heads and rules.
      weights, depths: w and D of other heads than the published.
      ratios: times of a pass of the target, in passes of the draft model.
      lessons, steps, rate: training prompts, steps, learning rate.
      mixing: r.
      target, draft, questions: folders of checkpoints and a file of questions, else the zoo.
    """

    prompts: int = 48
    max_tokens: int = 64
    batch: int = 48
    most: int = 16
    lengths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    thresholds: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
    few: tuple[float, ...] = (0.5, 0.7, 0.9)
    weights: tuple[float, ...] = (1.0, 3.0, 12.0)
    depths: tuple[int, ...] = (0, 1)
    ratios: tuple[float, ...] = (5.0, 10.0, 20.0)
    lessons: int = 256
    steps: int = 600
    rate: float = 1e-3
    mixing: float = 0.15
    target: str | None = None
    draft: str | None = None
    questions: Path | None = None
    seed: Seed = 0
    out: Out = None


@dataclass
class Setting:
    """A pair of models, and heads as they are wanted."""

    config: Config
    pair: Pair
    _lessons: dict[float, Lesson] = field(default_factory=dict)
    _heads: dict[tuple, AcceptanceHead] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Setting:
        c = config
        if c.few and not set(c.few) <= set(c.thresholds):
            raise ValueError(f"few={c.few}: each must be one of thresholds={c.thresholds}")
        where = field_of(c.prompts, c.max_tokens, c.target, c.draft, c.questions, "test")
        # Nothing is timed, and a loop over layers is compiled sooner.
        where = replace(where, target=where.target.configured(unroll=False))
        return cls(config, Pair(where, 1.0, c.batch, c.seed))

    def lesson(self, mixing: float) -> Lesson:
        """Labelled responses to prompts that are not those of the test."""
        if mixing not in self._lessons:
            c, here = self.config, self.pair.field
            lessons = field_of(c.lessons, 1, c.target, c.draft, c.questions, "validation")
            prompts = lessons.prompts
            generator, found = self.pair.generator, []
            make = jax.jit(label)
            for prompt in replace(here, prompts=prompts).batches(c.batch):
                responses = decode(Autoregressive(generator), c.seed + 1, prompt)
                key = jax.random.key(c.seed + 2)
                found.append(make(generator, here.draft, key, prompt, responses, mixing))
            count = len(prompts)  # the last batch is filled up with copies
            self._lessons[mixing] = jax.tree.map(lambda *x: jnp.concatenate(x)[:count], *found)
        return self._lessons[mixing]

    def head(self, weight: float, depth: int, mixing: float) -> AcceptanceHead:
        """A head trained on all but the last eighth of the lessons."""
        key = (weight, depth, mixing)
        if key not in self._heads:
            c, lesson = self.config, self.lesson(mixing)
            rows, width = lesson.label.shape[0], lesson.hidden.shape[2]
            kept = rows - max(rows // 8, 1)

            def batch(step: int) -> dict[str, Any]:
                chosen = np.random.default_rng((c.seed, step)).integers(0, kept, min(32, kept))
                return {
                    "hidden": lesson.hidden[chosen],
                    "label": lesson.label[chosen],
                    "counted": lesson.counted[chosen],
                }

            head = AcceptanceHead(width, depth, rngs=nnx.Rngs(c.seed))
            schedule = optax.warmup_cosine_decay_schedule(0, c.rate, c.steps // 33 + 1, c.steps)
            loss = partial(acceptance, rejection=weight)
            self._heads[key] = fit(head, loss, batch, optax.adamw(schedule), c.steps)
        return self._heads[key]

    def chain(self, halt=None, policy=None) -> Speculator:
        pair, c = self.pair, self.config
        generator = pair.generator
        drafter = Chain(pair.field.draft, c.most, generator.transform, generator.sampler)
        drafter = drafter if halt is None else replace(drafter, halt=halt)
        spec = Speculator(generator, drafter, Residual())
        return spec if policy is None else replace(spec, policy=policy)

    def foreseen(self, threshold: float, weight=WEIGHT, depth=DEPTH, mixing=None) -> Speculator:
        mixing = self.config.mixing if mixing is None else mixing
        head = self.head(weight, depth, mixing)
        least = min(2, self.config.most)
        return specdec_pp(
            self.pair.generator, self.pair.field.draft, head, threshold, least, self.config.most
        )

    def measure(self, make) -> dict[str, Any]:
        found = self.pair.counts(make())
        discarded = float((found.drafted - found.accepted).sum())
        work = Work(float(found.emitted.sum()), float(found.passes.sum()), discarded)
        speed = {
            f"speed-up at {r:g}": work.emitted * r / (r * work.passes + found.drafted.sum())
            for r in self.config.ratios
        }
        shares = {"verification": work.verification, "discard": work.discard}
        return shares | speed | {"by prompt": found.by_prompt()}
