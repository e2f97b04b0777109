"""Ends a draft at a token that the drafter was not sure of.

The rule of early-exit drafting (Zhang et al. 2024, arXiv:2310.08461; Liu et al. 2024,
arXiv:2404.18911): once the largest probability falls below the threshold, nothing more is
drafted. The token drawn there is verified all the same; dropping it because of its own
probability would bias the output.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from algorithms.speculative.drafters.chain import Evidence
from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float


@struct.dataclass
class Confidence:
    """Stops where the drafter's largest probability is below `threshold`."""

    threshold: Float[Array, ""] | float = 0.6

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def init(self, rows: int) -> Any:
        return ()

    def __call__(self, state: Any, evidence: Evidence) -> tuple[Any, Bool[Array, "B"]]:
        return state, jnp.max(evidence.law, axis=1) < self.threshold


def check_threshold(value: object) -> None:
    """Refuse a threshold that is no probability."""
    if isinstance(value, int | float) and not 0 <= value <= 1:
        raise ValueError(f"threshold={value}: probabilities lie in 0..1")
