"""Endings: what of a canvas need not be filled.

A canvas has a place for every token that a response may have, and most responses are shorter.
`Whole` fills it regardless; `Finished` leaves off once an end stands behind nothing undecided;
`EndOfText` cuts the canvas as soon as an end is foreseen, which makes later passes shorter.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class Ending(Protocol):
    """Says when a row needs no further pass.

    All properties are static.
    """

    @property
    def closes(self) -> bool:
        """A row ends once an end stands in its finished prefix."""
        ...

    @property
    def looks(self) -> bool:
        """`cut` wants to know where ends are foreseen."""
        ...

    @property
    def lingers(self) -> bool:
        """What is cut off stays in sight until a cache is filled anew."""
        ...

    def cut(
        self,
        limit: Int[Array, "R"],
        accepted: Bool[Array, "R C"],
        foreseen: Float[Array, "R C"],
    ) -> Int[Array, "R"]:
        """The new end of each canvas, a place past its last.

        Args:
          limit: the end so far.
          accepted: places where the chooser's rule has just accepted an end.
          foreseen: confidence of undecided places whose guess is an end, -inf elsewhere.
        """
        ...


@struct.dataclass
class Whole:
    """The canvas is filled to its last place, whatever stands in it."""

    closes: bool = struct.field(pytree_node=False, default=False)
    looks: bool = struct.field(pytree_node=False, default=False)
    lingers: bool = struct.field(pytree_node=False, default=False)

    def cut(self, limit: Array, accepted: Array, foreseen: Array) -> Int[Array, "R"]:
        return limit


@struct.dataclass
class Finished:
    """A row ends with the first end that has nothing undecided before it."""

    closes: bool = struct.field(pytree_node=False, default=True)
    looks: bool = struct.field(pytree_node=False, default=False)
    lingers: bool = struct.field(pytree_node=False, default=False)

    def cut(self, limit: Array, accepted: Array, foreseen: Array) -> Int[Array, "R"]:
        return limit


@struct.dataclass
class EndOfText:
    """Cuts the canvas behind an end that is accepted, or that is foreseen anywhere.

    Rule (a), `by_acceptance`: behind the first place where the chooser's rule accepts an end.
    Rule (b), `by_foresight`, where (a) finds none: behind the undecided place, in this block or
    any later one, whose guess is an end with the highest confidence. That place itself is
    still to be decided. What is cut off counts as ends in the result.

    Attributes:
      lingers: static; as the published loop with a dual cache, which keeps what was cut in
        sight until the next block; otherwise it is out of sight at once.
    """

    by_acceptance: bool = struct.field(pytree_node=False, default=True)
    by_foresight: bool = struct.field(pytree_node=False, default=True)
    lingers: bool = struct.field(pytree_node=False, default=False)

    def __post_init__(self) -> None:
        if not (self.by_acceptance or self.by_foresight):
            raise ValueError("by_acceptance=by_foresight=False: nothing would ever be cut")

    @property
    def closes(self) -> bool:
        return True

    @property
    def looks(self) -> bool:
        return self.by_foresight

    def cut(self, limit: Array, accepted: Array, foreseen: Array) -> Int[Array, "R"]:
        first, best = jnp.argmax(accepted, axis=1), jnp.argmax(foreseen, axis=1)
        by_a = jnp.any(accepted, axis=1) & self.by_acceptance
        by_b = jnp.any(jnp.isfinite(foreseen), axis=1) & self.by_foresight & ~by_a
        at = jnp.where(by_a, first, best)
        return jnp.where(by_a | by_b, jnp.minimum(limit, at + 1), limit)
