"""Lanes: K continuations of one cached prefix side by side, none of which sees another.

A call appends T tokens to every lane. Token t of lane k goes to the slot

    length + used + k T + t,     at the position   length + depth[k] + t,

and sees the prefix and what its own lane has. The prefix is read where it lies and never copied,
and its length never advances, so that dropping the lanes is doing nothing; `adopt` makes a
lane's first token part of the prefix. Teacher-forced continuations are one call, roll-outs one a
token.

All lanes share a pass, so that the weights are read once for all of them; what a lane must not
see is masked and not left out, so that attention costs each token all lanes' slots. Callers with
long lanes take few of them at a time.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import Cache, keep
from jaxdecode.lm import Backbone, View
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Lanes:
    """K lanes over the prefixes of B rows.

    Attributes:
      cache: its length is that of the prefixes.
      owner: i32[B, W], which lane's token is in each slot behind the prefix; -1 for none's.
      depth: i32[B, K], tokens that each lane has.
      used: i32[], slots behind the prefix that calls have taken.
      passes, tokens, attended: of each row, so far: calls in which it had a token, tokens, and
        keys that these saw.
    """

    cache: Cache
    owner: Int[Array, "B W"]
    depth: Int[Array, "B K"]
    used: Int[Array, ""]
    passes: Int[Array, "B"]
    tokens: Int[Array, "B"]
    attended: Float[Array, "B"]

    @classmethod
    def over(cls, cache: Cache, count: int, slots: int) -> Lanes:
        """`count` empty lanes behind every row's prefix.

        Args:
          slots: that all calls together take, K T each. The cache is to have room for them.
        """
        if count < 1 or slots > cache.capacity:
            raise ValueError(
                f"count={count} lanes of slots={slots} in all over a cache of {cache.capacity}: "
                "at least one lane is needed, and a cache with room for all"
            )
        zero = jnp.zeros((cache.batch,), jnp.int32)
        return cls(
            cache=cache,
            owner=jnp.full((cache.batch, slots), -1, jnp.int32),
            depth=jnp.zeros((cache.batch, count), jnp.int32),
            used=jnp.zeros((), jnp.int32),
            passes=zero,
            tokens=zero,
            attended=zero.astype(jnp.float32),
        )

    def run(
        self, model: Backbone, tokens: Int[Array, "B K T"], valid: Bool[Array, "B K T"]
    ) -> tuple[Float[Array, "B K T V"], Lanes]:
        """Append to the lanes; the logits after each token. The valid tokens of a lane come
        first."""
        batch, count, steps = tokens.shape
        lane, step = (np.repeat(np.arange(count), steps), np.tile(np.arange(steps), count))
        block = (lane[:, None] == lane) & (step[:, None] >= step)
        here, there = valid.reshape(batch, -1), self.cache.length[:, None]
        # Which lane wrote each slot of the cache; what lies before and beyond is nobody's.
        slot = jnp.arange(self.cache.capacity) - there
        inside = (slot >= 0) & (slot < self.owner.shape[1])
        index = jnp.clip(slot, 0, self.owner.shape[1] - 1)
        writer = jnp.where(inside, jnp.take_along_axis(self.owner, index, axis=1), -1)
        depth = self.depth[:, :, None] + jnp.arange(steps)
        view = View(
            position=(there[..., None] + depth).reshape(batch, -1),
            start=self.cache.length + self.used,
            prefix=self.cache.length,
            valid=here,
            block=jnp.broadcast_to(block, (batch, *block.shape)),
            beyond=writer[:, None] == lane[:, None],
        )
        output = model(tokens.reshape(batch, -1), self.cache, view)
        written = jnp.where(here, lane, -1).astype(jnp.int32)
        seen = jnp.where(valid, there[..., None] + depth + 1, 0)
        lanes = replace(
            self,
            cache=output.cache,
            owner=jax.lax.dynamic_update_slice(self.owner, written, (0, self.used)),
            depth=self.depth + jnp.sum(valid, axis=2),
            used=self.used + count * steps,
            passes=self.passes + jnp.any(here, axis=1),
            tokens=self.tokens + jnp.sum(here, axis=1),
            attended=self.attended + jnp.sum(seen, axis=(1, 2)),
        )
        return output.logits.reshape(*tokens.shape, -1), lanes

    def adopt(self, lane: Int[Array, "B"], rows: Bool[Array, "B"]) -> Cache:
        """The cache with the first token of a lane at the end of the prefix, on some rows. The
        first call took one token a lane."""
        return keep(self.cache, lane[:, None], rows.astype(jnp.int32))
