"""What is measured of every step's raw logits on the way."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class Meter(Protocol):
    """Reads every step's raw logits and accumulates statistics; leaves lead with R."""

    def init(self, rows: int) -> Any: ...

    def observe(
        self,
        state: Any,
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Any: ...


@struct.dataclass
class NoMeter:
    """Measures nothing."""

    def init(self, rows: int) -> tuple[Any, ...]:
        return ()

    def observe(
        self,
        state: tuple[Any, ...],
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> tuple[Any, ...]:
        return ()


def measure(
    meter: Meter,
    raw: Float[Array, "R V"],
    drawn: Int[Array, "R"],
    root: Int[Array, "R"],
    active: Bool[Array, "R"],
    state: Any,
) -> tuple[Float[Array, "R"], Any]:
    """The log-probability of what a step emits, the token `drawn` unless it is -1, and the
    meter's state after it."""
    emits = active & (drawn >= 0)
    token = jnp.where(emits, drawn, root)
    chosen = jnp.take_along_axis(raw, token[:, None], axis=1)[:, 0]
    logprob = chosen - jax.nn.logsumexp(raw, axis=1)
    return logprob, meter.observe(state, raw, token, emits)
