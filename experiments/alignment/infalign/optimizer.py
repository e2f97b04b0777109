"""The optimiser of the runs of the experiment on InfAlign."""

from __future__ import annotations

import functools

import optax


@functools.cache
def adam(rate: float, steps: int) -> optax.GradientTransformation:
    """A short warm-up and a cosine, under a clipped gradient."""
    schedule = optax.warmup_cosine_decay_schedule(0, rate, 5, max(steps, 6), rate / 10)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.98))
