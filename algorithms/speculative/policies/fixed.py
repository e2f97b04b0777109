"""A depth that never changes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Int


@struct.dataclass
class Fixed:
    """Drafts `depth` deep, or as deep as the drafter goes where that is less.

    One program serves every depth up to the drafter's: `depth` is a number, not a shape.
    """

    depth: Int[Array, ""] | int

    rests = False

    def __post_init__(self) -> None:
        if isinstance(self.depth, int) and self.depth < 1:
            raise ValueError(f"depth={self.depth}: a draft has at least one token")

    def init(self, rows: int) -> Any:
        return jnp.broadcast_to(jnp.asarray(self.depth, jnp.int32), (rows,))

    def limit(self, state: Any) -> Int[Array, "B"]:
        return state

    def update(
        self,
        state: Any,
        drafted: Int[Array, "B"],
        accepted: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> Any:
        return state

    def rest(self, state: Any, active: Bool[Array, "B"]) -> Any:
        return state
