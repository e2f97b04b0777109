"""Which of the tokens that were said beside one another are accepted."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax

from jaxdecode import struct
from jaxdecode.logits.transform import check_number
from jaxdecode.types import Array, Bool, Float, Key


@runtime_checkable
class Acceptance(Protocol):
    """Says of a token whether it is accepted if all before it are."""

    def __call__(self, keys: Key[Array, "R"], p: Float[Array, "R"]) -> Bool[Array, "R"]:
        """From the probability that its law gave it, and keys of its own."""
        ...


@struct.dataclass
class Confident:
    """Where its probability is at least beta."""

    beta: Float[Array, ""] | float = 0.9

    def __post_init__(self) -> None:
        check_number("beta", self.beta, 0.0)

    def __call__(self, keys: Key[Array, "R"], p: Float[Array, "R"]) -> Bool[Array, "R"]:
        return p >= self.beta


@struct.dataclass
class ByChance:
    """At random, whatever its probability: the control of a rule that accepts as many."""

    rate: Float[Array, ""] | float

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0.0, 1.0)

    def __call__(self, keys: Key[Array, "R"], p: Float[Array, "R"]) -> Bool[Array, "R"]:
        return jax.vmap(jax.random.uniform)(keys) < self.rate
