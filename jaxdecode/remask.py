"""Remaskers: which decided places of the block are open again.

`Keep` is what most methods do: a decided token stays. The others look at the confidence that a
token had when it was decided.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.choose import Even
from jaxdecode.guess import Sight, ranks
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Keep:
    """Nothing is opened again."""

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(
        self,
        state: tuple[Any, ...],
        sight: Sight,
        done: Bool[Array, "R T"],
        logprob: Float[Array, "R T"],
    ) -> tuple[Bool[Array, "R T"], tuple[Any, ...]]:
        return jnp.zeros_like(done), state


@struct.dataclass
class Lowest:
    """Opens the least confident places until as many are left as the schedule wants open.

    With `Everything` as the chooser all open places are guessed in each step, and the tokens
    that stay are the most confident of old and new ones alike.
    """

    schedule: Even

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(
        self,
        state: tuple[Any, ...],
        sight: Sight,
        done: Bool[Array, "R T"],
        logprob: Float[Array, "R T"],
    ) -> tuple[Bool[Array, "R T"], tuple[Any, ...]]:
        kept = self.schedule.through(sight, 1)
        again = jnp.where(sight.step >= self.schedule.steps - 1, 0, jnp.sum(done, 1) - kept)
        return done & (ranks(-logprob, done) < again[:, None]), state


@struct.dataclass
class Rework:
    """`extra` steps a block that open the `count` least confident places again (ReMDM).

    They come once the share `after` of the block is decided. How many places are guessed in
    them is the chooser's to say; with `count` places a step they neither gain nor lose any.
    """

    extra: Int[Array, ""] | int
    count: Int[Array, ""] | int = 1
    after: Float[Array, ""] | float = 7 / 8

    def __post_init__(self) -> None:
        for name in ("extra", "count"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}={value}: at least 1, or use `Keep`")

    def init(self, rows: int, block: int) -> Int[Array, "R"]:
        return jnp.zeros((rows,), jnp.int32)

    def __call__(
        self, state: Array, sight: Sight, done: Bool[Array, "R T"], logprob: Float[Array, "R T"]
    ) -> tuple[Bool[Array, "R T"], Array]:
        made = jnp.where(sight.step == 0, 0, state)
        due = (jnp.sum(done, 1) >= self.after * sight.entered) & (made < self.extra)
        again = done & due[:, None] & (ranks(-logprob, done) < self.count)
        return again, made + due
