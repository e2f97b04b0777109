"""The usual optimiser in five numbers: Adam, a schedule with a warm-up, a bound on the gradient.

`fit` takes any optax transformation; this is the one most runs want, as data.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import optax


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) under a schedule.

    Attributes:
      rate: the learning rate at its peak.
      updates: in all; those of `fit` times its steps.
      schedule: after the warm-up, "constant", "linear" or "cosine" down to `end` * rate.
      warmup: updates in which the rate rises linearly from 0.
      end: of the schedule, as a share of the peak.
      clip: largest norm of the gradient over all weights, longer ones being shortened; or None.
      decay: of the weights, all of them, times the rate.
    """

    rate: float
    updates: int
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: int = 0
    end: float = 0.0
    clip: float | None = 1.0
    decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.updates:
            raise ValueError(
                f"warmup={self.warmup} must lie in 0..{self.updates - 1}, below updates"
            )
        if not self.rate > 0 or not 0 <= self.end <= 1:
            raise ValueError(f"rate={self.rate}, end={self.end}: need rate > 0 and 0 <= end <= 1")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip}: a norm is positive; None clips nothing")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise ValueError(f"schedule={self.schedule!r}: use constant, linear or cosine")

    @property
    def rates(self) -> optax.Schedule:
        """Update, counted from 0 -> learning rate."""
        left, low = self.updates - self.warmup, self.end * self.rate
        match self.schedule:
            case "constant":
                after = optax.constant_schedule(self.rate)
            case "linear":
                after = optax.linear_schedule(self.rate, low, left)
            case "cosine":
                after = optax.cosine_decay_schedule(self.rate, left, self.end)
        rise = optax.linear_schedule(0.0, self.rate, max(self.warmup, 1))
        return optax.join_schedules([rise, after], [self.warmup])

    def build(self) -> optax.GradientTransformation:
        """The optax transformation of these settings; the same object for equal ones, so that
        runs with them share one compiled step."""
        return _built(self)


@functools.lru_cache(maxsize=32)
def _built(how: Optimizer) -> optax.GradientTransformation:
    adam = optax.adamw(how.rates, how.b1, how.b2, weight_decay=how.decay)
    return adam if how.clip is None else optax.chain(optax.clip_by_global_norm(how.clip), adam)
