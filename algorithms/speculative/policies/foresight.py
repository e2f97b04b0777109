"""Ends a draft when it is likely that one of its tokens will be rejected.

Theorem of Huang et al. 2024 (arXiv:2405.19715): stopping is cheaper than going on once the
probability of some rejection exceeds a constant of the problem. Whoever estimates

    P(some rejection) = 1 - product of P(token i accepted | those before it were)

can thus stop by a threshold. `Foreseen` reads the factors off the draft model's hidden states
with a trained head; `Product` makes do with the drafter's own law, and costs no training.
Neither sees anything of the target, so the law of the output is untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from algorithms.speculative.drafters.chain import Evidence
from algorithms.speculative.policies.confidence import check_threshold
from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int

Head = Callable[[Float[Array, "B D"]], Float[Array, "B"]]
"""Draft model's final hidden states after it read a token -> probability that it is accepted."""

Factor = Callable[[Float[Array, "B V"], Int[Array, "B"]], Float[Array, "B"]]
"""(law that a token was drawn from, token) -> a stand-in for its acceptance."""


def largest(law: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    """The largest probability."""
    return jnp.max(law, axis=1)


def evenness(law: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    """exp(-entropy): 1 where there is no choice, 1/n where n tokens are equally likely."""
    return jnp.exp(jnp.sum(jnp.where(law > 0, law * jnp.log(jnp.maximum(law, 1e-30)), 0.0), axis=1))


@struct.dataclass
class Foreseen:
    """Stops where the head foresees a rejection with probability above `threshold`.

    The newest token has not been read by the draft model, so its own factor is not known, and
    it is verified with the rest; the root is verified text and has no factor.

    Attributes:
      head: a pytree; see `Head`.
      threshold: h; below 0 every draft has `least` tokens, and from 1 on none ends early.
      least: tokens that are drafted in any case.
    """

    head: Any
    threshold: Float[Array, ""] | float = 0.7
    least: Int[Array, ""] | int = 2

    def __post_init__(self) -> None:
        if isinstance(self.least, int) and self.least < 1:
            raise ValueError(f"least={self.least}: a draft has at least one token")

    def init(self, rows: int) -> Float[Array, "B"]:
        return jnp.ones((rows,), jnp.float32)

    def __call__(
        self, state: Float[Array, "B"], evidence: Evidence
    ) -> tuple[Float[Array, "B"], Bool[Array, "B"]]:
        accepted = self.head(evidence.hidden)
        held = state * jnp.where(evidence.index > 0, accepted, 1.0)
        return held, (1 - held > self.threshold) & (evidence.index + 1 >= self.least)


@struct.dataclass
class Product:
    """Stops where 1 minus the product of the drafter's own probabilities passes `threshold`.

    Attributes:
      threshold: as above.
      least: as above.
      factor: static; see `Factor`.
    """

    threshold: Float[Array, ""] | float = 0.7
    least: Int[Array, ""] | int = 1
    factor: Factor = struct.field(pytree_node=False, default=largest)

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if isinstance(self.least, int) and self.least < 1:
            raise ValueError(f"least={self.least}: a draft has at least one token")

    def init(self, rows: int) -> Float[Array, "B"]:
        return jnp.ones((rows,), jnp.float32)

    def __call__(
        self, state: Float[Array, "B"], evidence: Evidence
    ) -> tuple[Float[Array, "B"], Bool[Array, "B"]]:
        held = state * self.factor(evidence.law, evidence.token)
        return held, (1 - held > self.threshold) & (evidence.index + 1 >= self.least)
