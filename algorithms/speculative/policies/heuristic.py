"""Two deeper after a draft that held, one shallower after one that did not.

The schedule of assisted generation in common libraries, from 5 up and down (Gante 2023). A
draft that another rule ended early has not held to its full depth and counts as the latter;
so does the deepest draft of a drafter that goes no deeper, and the depth hovers there.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Int


@struct.dataclass
class Heuristic:
    """K becomes K + 2 if all K drafts were accepted and max(1, K - 1) otherwise.

    Attributes:
      start: K of the first round.
    """

    start: Int[Array, ""] | int = 5

    rests = False

    def __post_init__(self) -> None:
        if isinstance(self.start, int) and self.start < 1:
            raise ValueError(f"start={self.start}: a draft has at least one token")

    def init(self, rows: int) -> Any:
        return jnp.broadcast_to(jnp.asarray(self.start, jnp.int32), (rows,))

    def limit(self, state: Any) -> Int[Array, "B"]:
        return state

    def update(
        self,
        state: Any,
        drafted: Int[Array, "B"],
        accepted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Any:
        held = jnp.where(accepted >= state, state + 2, jnp.maximum(state - 1, 1))
        return jnp.where(active, held, state)

    def rest(self, state: Any, active: Bool[Array, "B"]) -> Any:
        return state
