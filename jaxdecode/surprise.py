"""A meter of every token's surprise."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Surprises:
    """What R rows have emitted.

    Attributes:
      bits: f32[R, L], -log2 p of each token under the raw law; 0 past the row's length.
      likeliest: bool[R, L], whether it was the most probable one, ties included.
      length: i32[R].
    """

    bits: Float[Array, "R L"]
    likeliest: Bool[Array, "R L"]
    length: Int[Array, "R"]


@struct.dataclass
class SurpriseMeter:
    """Keeps the surprise of `max_tokens` tokens, static, to be what the generator emits."""

    max_tokens: int = struct.field(pytree_node=False)

    def init(self, rows: int) -> Surprises:
        blank = jnp.zeros((rows, self.max_tokens))
        return Surprises(blank, blank > 0, jnp.zeros((rows,), jnp.int32))

    def observe(
        self,
        state: Surprises,
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Surprises:
        chosen = jnp.take_along_axis(logits, token[:, None], axis=1)
        bits = (jax.nn.logsumexp(logits, axis=1, keepdims=True) - chosen) / math.log(2)
        likeliest = chosen >= jnp.max(logits, axis=1, keepdims=True)
        at = jnp.where(active, state.length, self.max_tokens)[:, None]
        return Surprises(
            bits=put(state.bits, at, bits),
            likeliest=put(state.likeliest, at, likeliest),
            length=state.length + active,
        )
