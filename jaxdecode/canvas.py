"""The canvas of R rows: prompt and response in one array, undecided places holding the mask.

A row's places are cut into blocks, and the block that is worked on is the one of its first open
place. Nothing else says where a row stands: prompts of any length, spans to fill in the middle
of a text, and places that were opened again are all the same to the engine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Meter
from jaxdecode.cache import put
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Canvas:
    """R canvases of C places; every leaf leads with R.

    Attributes:
      tokens: i32[R, C].
      fill: bool[R, C], the places that are to be filled, decided or not.
      origin: i32[R], first place of block 0.
      limit: i32[R], end of the canvas: places at or past it are neither run nor seen.
      decided: i32[R, C], the pass, from 0, in which a place was decided last; -1 for none.
      logprob: f32[R, C], of the token when it was decided.
      first: i32[R], first place of the block that is worked on; -1 before the first pass.
      step: i32[R], passes made in this block.
      entered: i32[R], places of the block that were open when it was entered.
      passes: i32[R], passes made.
      commits: i32[R], places decided, those opened again counted each time.
      filled: i32[R], the block for which the cache was filled, by its first place; -1 none.
      held: i32[R], the limit when the cache was filled.
      age: i32[R], passes since, that one included.
      chooser, remasker: their states.
      drafts: what an engine that drafts has ready.
      meter: states of a meter, one for every place: leaves lead with R, C.
    """

    tokens: Int[Array, "R C"]
    fill: Bool[Array, "R C"]
    origin: Int[Array, "R"]
    limit: Int[Array, "R"]
    decided: Int[Array, "R C"]
    logprob: Float[Array, "R C"]
    first: Int[Array, "R"]
    step: Int[Array, "R"]
    entered: Int[Array, "R"]
    passes: Int[Array, "R"]
    commits: Int[Array, "R"]
    filled: Int[Array, "R"]
    held: Int[Array, "R"]
    age: Int[Array, "R"]
    chooser: Any
    remasker: Any
    meter: Any
    drafts: Any = ()

    @classmethod
    def of(
        cls,
        prompts: Prompt,
        width: int,
        mask: int,
        new: int | None,
        origin: Int[Array, "R"],
        **states: Any,
    ) -> Canvas:
        """Canvases on which no pass was made, one for each prompt.

        Args:
          width: C.
          new: places to fill behind the prompt; None for the masks inside it.
        """
        given = jnp.arange(width) < prompts.length[:, None]
        room = max(width - prompts.tokens.shape[1], 0)
        tokens = jnp.pad(prompts.tokens, ((0, 0), (0, room)))[:, :width]
        limit = jnp.minimum(prompts.length + (new or 0), width)
        if new is None:
            fill = given & (tokens == mask)
        else:
            fill = ~given & (jnp.arange(width) < limit[:, None])
        tokens = jnp.where(given & ~fill, tokens, mask)
        zero = jnp.zeros_like(limit)
        none = zero - 1
        return cls(
            tokens=tokens,
            fill=fill,
            origin=origin,
            limit=limit,
            decided=jnp.full(tokens.shape, -1, jnp.int32),
            logprob=jnp.zeros(tokens.shape, jnp.float32),
            first=none,
            step=zero,
            entered=zero,
            passes=zero,
            commits=zero,
            filled=none,
            held=zero,
            age=zero,
            **states,
        )

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    @property
    def open(self) -> Bool[Array, "R C"]:
        """Places that are still to be decided."""
        return self._inside & (self.decided < 0)

    @property
    def done(self) -> Bool[Array, "R C"]:
        """Places that were decided and not cut off since."""
        return self._inside & (self.decided >= 0)

    @property
    def _inside(self) -> Bool[Array, "R C"]:
        return self.fill & (jnp.arange(self.width) < self.limit[:, None])

    def entering(self, block: int, active: Bool[Array, "R"]) -> Canvas:
        """The canvas with the block of the first open place as the one that is worked on."""
        open = self.open
        at = jnp.argmax(open, axis=1)
        first = self.origin + (at - self.origin) // block * block
        first = jnp.where(jnp.any(open, axis=1), first, self.first)
        fresh = active & (first != self.first)
        entered = jnp.sum(self.window(open, places(first, block)), axis=1)
        return replace(
            self,
            first=jnp.where(active, first, self.first),
            step=jnp.where(fresh, 0, self.step),
            entered=jnp.where(fresh, entered, self.entered),
        )

    def window(self, array: Array, at: Int[Array, "R T"]) -> Array:
        """array[r, at[r, t]]; False or 0 at a place that the canvas does not have."""
        inside = (at >= 0) & (at < self.width)
        taken = jnp.take_along_axis(array, jnp.clip(at, 0, self.width - 1), axis=1)
        return jnp.where(inside, taken, jnp.zeros((), array.dtype))

    def decide(
        self,
        at: Int[Array, "R T"],
        accept: Bool[Array, "R T"],
        token: Int[Array, "R T"],
        logprob: Float[Array, "R T"],
        later: Int[Array, "R T"] | int = 0,
    ) -> Canvas:
        """Tokens at the accepted of these places, decided `later` than the pass being made."""
        where = jnp.where(accept, at, self.width)
        passes = jnp.broadcast_to(self.passes[:, None] + later, at.shape)
        return replace(
            self,
            tokens=put(self.tokens, where, token),
            decided=put(self.decided, where, passes),
            logprob=put(self.logprob, where, logprob),
            commits=self.commits + jnp.sum(accept, axis=1),
        )

    def observed(
        self,
        meter: Meter,
        read: tuple[Float[Array, "R T V"], Int[Array, "R T"]],
        at: Int[Array, "R T"],
        accept: Bool[Array, "R T"],
    ) -> Canvas:
        """A meter is shown logits and tokens about to be decided; each place begins anew."""
        logits, token = read
        flat = logits.reshape(-1, logits.shape[-1]), token.reshape(-1), accept.reshape(-1)
        state = by_place(meter.observe(meter.init(at.size), *flat), at.shape[0])
        where = jnp.where(accept, at, self.width)
        return replace(
            self, meter=jax.tree.map(lambda all, new: put(all, where, new), self.meter, state)
        )

    def reopen(self, at: Int[Array, "R T"], again: Bool[Array, "R T"], mask: int) -> Canvas:
        """The mask at some of these places, to be decided once more."""
        where = jnp.where(again, at, self.width)
        return replace(
            self,
            tokens=put(self.tokens, where, jnp.full_like(at, mask)),
            decided=put(self.decided, where, jnp.full_like(at, -1)),
        )


def places(first: Int[Array, "R"], count: int) -> Int[Array, "R T"]:
    """`count` places from `first` on."""
    return first[:, None] + jnp.arange(count)


def by_place(state: Any, rows: int) -> Any:
    """A state of R * T rows as one of R rows and T places."""
    return jax.tree.map(lambda leaf: leaf.reshape(rows, -1, *leaf.shape[1:]), state)
