"""Choosers by rank, and the schedules that say how many.

`Top` decides the q places of the highest score; `Ancestral` tosses a coin for each, which is how
the reverse process of masking is sampled; `Everything` decides all. A step of `Top` under a
schedule of one place, in an order that does not depend on the draw, samples the denoiser's
conditionals one after the other: the chain rule of that order.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.guess import ORDERS, Choice, Order, Schedule, Sight, ranks
from jaxdecode.types import Array, Float, Int


def _positive(name: str, value: Any) -> None:
    if isinstance(value, int) and value < 1:
        raise ValueError(f"{name}={value}: a step decides something, and there is at least one")


@struct.dataclass
class Fixed:
    """`count` places a step."""

    count: Int[Array, ""] | int = 1

    def __post_init__(self) -> None:
        _positive("count", self.count)

    def __call__(self, sight: Sight) -> Int[Array, "R"]:
        return jnp.broadcast_to(jnp.asarray(self.count, jnp.int32), sight.step.shape)


@struct.dataclass
class Even:
    """A block's places over `steps` steps; what does not divide goes to the earliest (LLaDA)."""

    steps: Int[Array, ""] | int

    def __post_init__(self) -> None:
        _positive("steps", self.steps)

    def __call__(self, sight: Sight) -> Int[Array, "R"]:
        last = sight.step >= self.steps - 1
        return jnp.where(last, sight.left, self.through(sight, 1) - self.through(sight, 0))

    def through(self, sight: Sight, more: int) -> Int[Array, "R"]:
        """Places decided by the first `step + more` steps of the block."""
        made = jnp.minimum(sight.step + more, self.steps)
        whole, rest = sight.entered // self.steps, sight.entered % self.steps
        return whole * made + jnp.minimum(made, rest)


@struct.dataclass
class Grid:
    """The share 1 - s/t of what is open, t to s on a grid from 1 to `floor`; at last all (Dream).

    A share is rounded down, so that a step may decide nothing.
    """

    steps: Int[Array, ""] | int
    floor: Float[Array, ""] | float = 1e-3

    def __post_init__(self) -> None:
        _positive("steps", self.steps)

    def __call__(self, sight: Sight) -> Int[Array, "R"]:
        share, last = falling(self.steps, self.floor, sight.step)
        return jnp.where(last, sight.left, (sight.left * share).astype(jnp.int32))


def falling(steps: Any, floor: Any, step: Int[Array, "R"]) -> tuple[Array, Array]:
    """1 - s/t at a step of the grid from 1 down to `floor`, and whether it is the last step."""
    t = 1.0 - step * (1.0 - floor) / steps
    s = 1.0 - (step + 1) * (1.0 - floor) / steps
    return 1.0 - s / t, step >= steps - 1


@struct.dataclass
class Top:
    """The places of the highest score, as many as the schedule says.

    Attributes:
      schedule: how many; every step decides at least `least` of them.
      order: static; what places are ranked by.
      least: static; 0 lets a schedule decide nothing in a step.
    """

    schedule: Schedule = Fixed()
    order: Order = struct.field(pytree_node=False, default="confidence")
    least: int = struct.field(pytree_node=False, default=1)

    def __post_init__(self) -> None:
        check_order(self.order)

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        quota = jnp.maximum(self.schedule(sight), self.least)
        rank = ranks(sight.score(self.order), sight.open)
        accept = rank < quota[:, None]
        return Choice.of(sight, jnp.zeros_like(sight.open), accept), state


@struct.dataclass
class Everything:
    """All open places at once: a remasker takes back what is not to stay."""

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        return Choice.of(sight, sight.open), state


@struct.dataclass
class Ancestral:
    """Each open place by a coin of its own, with chance 1 - s/t at a step from t to s.

    The reverse process of masking, on a grid from 1 to `floor` (Dream's "origin" with 1e-3);
    the last step decides what is left.
    """

    steps: Int[Array, ""] | int
    floor: Float[Array, ""] | float = 0.0

    def __post_init__(self) -> None:
        _positive("steps", self.steps)

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        share, last = falling(self.steps, self.floor, sight.step)
        count = sight.open.shape[1]
        coin = jax.vmap(lambda key: jax.random.uniform(key, (count,)))(sight.coin)
        return Choice.of(sight, (coin < share[:, None]) | last[:, None]), state


def check_order(order: str) -> None:
    """Raises ValueError for what places cannot be ranked by."""
    if order not in ORDERS:
        raise ValueError(f"order={order!r} must be one of {', '.join(ORDERS)}")
