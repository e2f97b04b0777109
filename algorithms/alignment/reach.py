"""Coming to a divergence: how far a policy is from the base, and a training that ends where it
should be.

A run is looked at when its steps are over and, where nothing in it holds the divergence, before. It
is gone on with while it is short of the target. One that went too far is brought back on the
straight line between its weights and the base's, on which the divergence rises from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.alignment.base import blocks
from jaxdecode.autoregress import Generator, generate
from jaxdecode.cache import spread
from jaxdecode.prompt import Prompt
from jaxdecode.train.losses import Forward
from jaxdecode.train.sequences import divergence, join
from jaxdecode.types import Array, Float, Key

SHARE = 0.15  # of the target, by which a policy may miss it
LOOKS = 4  # at points of the line

Measure = Callable[[Any], float]
"""policy -> its divergence from the base in nats."""


@dataclass(frozen=True)
class Place:
    """Where a policy came to.

    Attributes:
      policy: the policy.
      kl: its divergence from the base, in nats.
      steps: of training that are in it.
      line: its place on the line from the base (0) to the trained policy (1).
    """

    policy: Any
    kl: float
    steps: int
    line: float = 1.0


def divergences(
    generator: Generator,
    policy: Any,
    prompts: Sequence[Sequence[int]],
    samples: int,
    seed: int,
    batch: int = 4,
) -> np.ndarray:
    """D(policy || base) of whole responses in nats, by prompt: f64[P].

    Args:
      generator: with the base as its model; draws as it draws.
      samples: responses of the policy to each prompt.
      batch: prompts at a time.
    """
    key, found = jax.random.key(seed), []
    for block, count in blocks(prompts, batch):
        found.append(np.asarray(_divergence(generator, policy, key, block, samples))[:count])
    return np.concatenate(found).astype(np.float64)


@partial(jax.jit, static_argnums=4)
def _divergence(
    generator: Generator, policy: Any, key: Key[Array, ""], prompt: Prompt, samples: int
) -> Float[Array, "B"]:
    rows = generate(replace(generator, model=policy), key, prompt, samples)
    both = join(spread(prompt, samples), rows.tokens, rows.length)

    def one(part: Any) -> Float[Array, "K"]:  # a prompt at a time: laws of all tokens are large
        return divergence(policy, cast(Forward, generator.model), part)

    parts = jax.tree.map(lambda x: x.reshape(prompt.batch, samples, *x.shape[1:]), both)
    return jnp.mean(jax.lax.map(one, parts), axis=1)


def reach(
    base: Any,
    train: Callable[[int], Any],
    looks: Sequence[int],
    kl: float,
    measure: Measure,
    begun: int = 0,
    patient: bool = False,
    told: Callable[[Place], None] = lambda place: None,
) -> tuple[Place, list[Place]]:
    """The place where a run comes to the target, and all at which it was looked.

    Args:
      train: steps in all -> the policy then; goes on from what it did before.
      looks: numbers of steps after which to look, rising; the last one is the end.
      begun: steps that a run before this one has done; looks below it are passed over.
      patient: to the end, whatever the divergence did so far; otherwise a run that does not get
        on is left.
      told: hears of every look.
    """
    seen: list[Place] = []

    def look(policy: Any, steps: int, line: float = 1.0) -> Place:
        seen.append(Place(policy, measure(policy), steps, line))
        told(seen[-1])
        return seen[-1]

    for steps in [s for s in looks if s >= begun] or looks[-1:]:
        place = look(train(steps), steps)
        if place.kl >= (1 - SHARE) * kl or (not patient and hopeless(seen, looks, kl)):
            break
    if place.kl > (1 + SHARE) * kl:
        place = _back(base, place, kl, look)
    return place, seen


def hopeless(seen: Sequence[Place], looks: Sequence[int], kl: float) -> bool:
    """Whether going on as between the last two looks would not come to half of the target.

    Weights that move at one speed make a divergence that rises with the square of the steps.
    """
    if len(seen) < 2:
        return False
    before, now = seen[-2:]
    speed = (math.sqrt(now.kl) - math.sqrt(before.kl)) / max(now.steps - before.steps, 1)
    end = math.sqrt(now.kl) + speed * (looks[-1] - now.steps)
    return end**2 < 0.5 * kl if end > 0 else True


def _back(base: Any, far: Place, kl: float, look: Callable[[Any, int, float], Place]) -> Place:
    """The point of the line whose divergence is the target, by its root, which is nearly linear."""
    low, high, place = (0.0, 0.0), (1.0, math.sqrt(far.kl)), far
    for _ in range(LOOKS):
        (t, a), (u, b) = low, high
        line = t + (u - t) * (math.sqrt(kl) - a) / (b - a)
        place = look(between(base, far.policy, line), far.steps, line)
        if abs(place.kl - kl) <= SHARE * kl:
            break
        root = math.sqrt(place.kl)
        low, high = ((line, root), high) if place.kl < kl else (low, (line, root))
    return place


def between(base: Any, policy: Any, line: float) -> Any:
    """Weights (1 - line) base + line policy."""

    def mixed(one: Array, other: Array) -> Array:
        wide = one.astype(jnp.float32)
        return (wide + line * (other.astype(jnp.float32) - wide)).astype(other.dtype)

    return jax.tree.map(mixed, base, policy)
