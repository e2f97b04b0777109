"""What every decoder returns: tokens, why each row ended, and what it cost."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.lm import ModelCost
from jaxdecode.types import Array, Float, Int


class Status(enum.IntEnum):
    """Why a row stands where it stands."""

    RUNNING = 0
    EOS = 1  # an end token or a stop sequence
    LENGTH = 2  # max_tokens reached
    CAPACITY = 3  # no free slot in a cache or an arena
    BUDGET = 4  # the compute or memory budget was used up first
    EXHAUSTED = 5  # nothing left to expand
    INVALID = 6  # no usable score or answer


@struct.dataclass
class Usage:
    """Honest counts per row, filled by the engines. Every array has leading axis B.

    emitted = accepted + bonus - truncated for a speculating decoder; for one that emits one
    token per pass, accepted is 0 and bonus equals emitted. `histogram[:, a]` counts the
    verify passes that accepted a draft tokens. `attended` sums, over target tokens, the keys
    that each one saw, which with the token count gives FLOPs. `invalid` counts hypotheses
    lost because no token could be drawn or no finite score was given. `flops` are those of
    the target, and of drafts and scorers that report theirs.
    """

    prompt_tokens: Int[Array, "B"]
    emitted: Int[Array, "B"]
    target_passes: Int[Array, "B"]
    target_tokens: Int[Array, "B"]
    attended: Float[Array, "B"]
    draft_passes: Int[Array, "B"]
    draft_tokens: Int[Array, "B"]
    scorer_passes: Int[Array, "B"]
    scorer_tokens: Int[Array, "B"]
    drafted: Int[Array, "B"]
    accepted: Int[Array, "B"]
    bonus: Int[Array, "B"]
    truncated: Int[Array, "B"]
    histogram: Int[Array, "B H"]
    invalid: Int[Array, "B"]
    peak_cache_tokens: Int[Array, "B"]
    peak_cache_bytes: Float[Array, "B"]
    flops: Float[Array, "B"]

    @classmethod
    def zeros(cls, batch: int, depth: int = 0) -> Usage:
        """No cost yet; `depth` is the most draft tokens one verify pass can accept."""
        counts = {name: jnp.zeros((batch,), jnp.int32) for name in cls.__dataclass_fields__}
        for name in ("attended", "peak_cache_bytes", "flops"):
            counts[name] = jnp.zeros((batch,), jnp.float32)
        return cls(**(counts | {"histogram": jnp.zeros((batch, depth + 1), jnp.int32)}))

    def add(self, **counts: Array) -> Usage:
        """Increment the named counts."""
        return replace(self, **{name: getattr(self, name) + n for name, n in counts.items()})

    def peak(self, tokens: Int[Array, "B"]) -> Usage:
        """Raise the peak of occupied cache slots."""
        return replace(self, peak_cache_tokens=jnp.maximum(self.peak_cache_tokens, tokens))

    def priced(self, cost: ModelCost) -> Usage:
        """Fill in FLOPs and bytes of the target model from the counts."""
        return replace(
            self,
            flops=self.flops
            + 2.0 * cost.parameters * self.target_tokens
            + cost.attention * self.attended,
            peak_cache_bytes=cost.cache_bytes * self.peak_cache_tokens.astype(jnp.float32),
        )

    def grouped(self, groups: int) -> Usage:
        """Sum R = groups * K flattened rows into their groups."""
        return jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]).sum(1), self)


@struct.dataclass
class Result:
    """B decoded rows.

    Attributes:
      tokens: i32[B, L]; entries at or past `length` are zero.
      length: i32[B], emitted tokens, the end token included.
      logprob: f32[B], sum of log p(token) under the model's raw distribution
        (temperature 1, no filter).
      status: i8[B], see `Status`.
      usage: what it cost.
      trace: diagnostics of the method, any pytree.
    """

    tokens: Int[Array, "B L"]
    length: Int[Array, "B"]
    logprob: Float[Array, "B"]
    status: Int[Array, "B"]
    usage: Usage
    trace: Any = None
