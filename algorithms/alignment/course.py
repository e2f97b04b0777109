"""A run that aligns a policy: what it is given, what it tells, what comes out of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optax

from algorithms.alignment import base, reach
from algorithms.alignment.optimising import Plan, deployed
from algorithms.alignment.pairs import Pair
from algorithms.alignment.reach import Place
from jaxdecode.autoregress import Generator

OWN = ("dpo", "ipo", "sft")
"""Methods that learn from one's own pairs, where there are some."""
WARMUP = 5
BEST_OF = 4  # N of what is imitated, for a procedure that has none
MEASURED = 32  # prompts at most on which the KL is measured

Watcher = Callable[[str, int, int, Mapping[str, float]], None]
"""(stage, how many are done, of how many, what is known of them)."""


@dataclass(frozen=True)
class Aligned:
    """What came out.

    Attributes:
      policy: a model as the base is.
      kl: its divergence from the base on prompts of the training, in nats.
      reached: whether that is the target, to `algorithms.alignment.reach.SHARE` of it.
      beta: the strength of the penalty at the end, None for a method without one.
      looks: where the run was when it was looked at, in order; the last one is the policy.
    """

    policy: Any
    kl: float
    reached: bool
    beta: float | None
    looks: Sequence[Place]


def silent(stage: str, done: int, of: int, told: Mapping[str, float]) -> None:
    """Hears of everything and says nothing."""


@functools.lru_cache(maxsize=8)
def usual(rate: float, steps: int) -> optax.GradientTransformation:
    """Adam under a clipped gradient: a short warm-up, and in the second half of the steps down to
    a third of the rate, at which a run is gone on with."""
    half = max(1, steps // 2)
    rates = optax.join_schedules(
        [
            optax.linear_schedule(rate / WARMUP, rate, WARMUP),
            optax.linear_schedule(rate, rate / 3, max(1, steps - half)),
        ],
        [half],
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates, b2=0.98))


@dataclass(frozen=True)
class Course:
    """The arguments of `algorithms.alignment.align.align`, checked."""

    generator: Generator
    prompts: Sequence[Sequence[int]]
    kl: float
    method: str
    scorer: Any
    pairs: Sequence[Pair]
    procedure: Any
    plan: Plan
    folder: Path | None
    watch: Watcher

    def measure(self, policy: Any) -> float:
        """The KL on some of the prompts."""
        self.watch("divergence", 0, 1, {})
        some = self.prompts[:MEASURED]
        samples, seed = max(4, self.plan.group), self.plan.seed + 7
        batch = min(4, self.plan.batch)
        generator, policy = deployed((self.generator, policy), self.plan)
        found = reach.divergences(generator, policy, some, samples, seed, batch)
        return float(found.mean())

    def at(self, place: Place) -> None:
        """Tell of a look."""
        self.watch("divergence", 1, 1, {"kl": place.kl, "steps": place.steps, "line": place.line})

    def trained(self, of: int) -> Callable[[int, Mapping[str, float]], None]:
        """Who tells of a training's steps."""
        return lambda step, means: self.watch("training", step, of, means)

    def drawn(self) -> base.Responses:
        """K base responses to every prompt."""
        count = len(self.prompts)
        return base.draw(
            self.generator,
            self.scorer,
            self.prompts,
            self.plan.samples,
            self.plan.seed,
            self.plan.batch,
            watch=lambda done: self.watch("base responses", done, count, {}),
            folder=None if self.folder is None else self.folder / "drawn",
        )

    def told(self, place: Place, seen: Sequence[Place], beta: float | None) -> Aligned:
        """What came out, of the place that was come to."""
        near = abs(place.kl - self.kl) <= reach.SHARE * self.kl
        return Aligned(place.policy, place.kl, near, beta, tuple(seen))

    @property
    def best_of(self) -> int:
        """N of what is imitated."""
        return best_of(self.procedure)

    @property
    def save(self) -> int:
        """Steps between checkpoints: a tenth of the run, so that a kill costs little."""
        return self.plan.save or max(1, self.plan.steps // 10)

    @property
    def told_every(self) -> int:
        """Steps between reports of the training."""
        return max(1, self.plan.steps // 50)


def best_of(procedure: Any) -> int:
    """N of a procedure that has one."""
    return max(2, int(getattr(procedure, "samples", BEST_OF)))
