"""When to pause and look ahead."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.logits.transform import check_number
from jaxdecode.types import Array, Bool, Float, Key


@runtime_checkable
class Trigger(Protocol):
    """Says which rows pause before their next token."""

    def __call__(self, keys: Key[Array, "R"], entropy: Float[Array, "R"]) -> Bool[Array, "R"]:
        """From this step's keys, of a stream of their own, and the law's entropy in nats."""
        ...


@struct.dataclass
class Uncertain:
    """Where the entropy reaches a threshold, in nats: learned from the model
    (`algorithms.tokens.threshold`), or fixed. Infinity never pauses, 0 always."""

    threshold: Float[Array, ""] | float

    def __post_init__(self) -> None:
        value: Any = self.threshold
        if isinstance(value, int | float | np.floating) and not float(value) >= 0:
            raise ValueError(f"threshold={value}: an entropy in nats is at least 0")

    def __call__(self, keys: Key[Array, "R"], entropy: Float[Array, "R"]) -> Bool[Array, "R"]:
        return entropy >= self.threshold


@struct.dataclass
class Chance:
    """At random, whatever the law: the control of a trigger that pauses as often."""

    rate: Float[Array, ""] | float

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0.0, 1.0)

    def __call__(self, keys: Key[Array, "R"], entropy: Float[Array, "R"]) -> Bool[Array, "R"]:
        return jax.vmap(jax.random.uniform)(keys) < self.rate


@struct.dataclass
class Always:
    """At every token."""

    def __call__(self, keys: Key[Array, "R"], entropy: Float[Array, "R"]) -> Bool[Array, "R"]:
        return jnp.ones(entropy.shape, bool)
