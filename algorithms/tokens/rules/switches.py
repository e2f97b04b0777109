"""Which of two models writes the next token."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.logits.transform import check_number
from jaxdecode.types import Array, Bool, Float, Int, Key


@runtime_checkable
class Switch(Protocol):
    """Decides token by token; the leaves of its state lead with the rows."""

    def init(self, rows: int) -> Any: ...

    def large(self, state: Any) -> Bool[Array, "R"]:
        """Rows whose next token the large model writes."""
        ...

    def observe(
        self, state: Any, keys: Key[Array, "R"], bits: Float[Array, "R"], active: Bool[Array, "R"]
    ) -> Any:
        """Take note of the entropy of the law that a token came of, on the active rows. The keys
        are this token's, of a stream of their own."""
        ...


class Rolling(NamedTuple):
    """State of `RollingEntropy`.

    Attributes:
      large: bool[R], who is writing.
      ring: f32[R, w], the newest entropies; `count` i32[R], how many there have been.
      since: i32[R], tokens since the last change.
    """

    large: Bool[Array, "R"]
    ring: Float[Array, "R w"]
    count: Int[Array, "R"]
    since: Int[Array, "R"]


@struct.dataclass
class RollingEntropy:
    """The large model while the mean entropy of the last tokens exceeds a threshold.

    Attributes:
      threshold: tau, in bits; the mean must exceed it.
      window: static, w tokens.
      hold: tokens after a change before the next may come.
      start_large: who begins.
      partial: before there are w tokens, whether the mean of those there are decides; else
        nothing changes until then.
      reset: whether a change empties the window; else entropies of both models stand in it.
      both: whether changes to the large model have to wait too; else only those back.
    """

    threshold: Float[Array, ""] | float
    window: int = struct.field(pytree_node=False, default=5)
    hold: Int[Array, ""] | int = 10
    start_large: Bool[Array, ""] | bool = False
    partial: Bool[Array, ""] | bool = True
    reset: Bool[Array, ""] | bool = False
    both: Bool[Array, ""] | bool = True

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window={self.window}: at least one token is averaged over")
        if isinstance(self.hold, int) and self.hold < 1:
            raise ValueError(f"hold={self.hold}: a model writes at least one token")
        value: Any = self.threshold
        if isinstance(value, int | float | np.generic) and np.isnan(value):
            raise ValueError("threshold=nan: give bits; infinity never calls the large model")

    def init(self, rows: int) -> Rolling:
        zero = jnp.zeros((rows,), jnp.int32)
        begins = jnp.broadcast_to(jnp.asarray(self.start_large, bool), (rows,))
        return Rolling(begins, jnp.zeros((rows, self.window)), zero, zero)

    def large(self, state: Rolling) -> Bool[Array, "R"]:
        return state.large

    def observe(
        self,
        state: Rolling,
        keys: Key[Array, "R"],
        bits: Float[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Rolling:
        place = jnp.where(active, state.count % self.window, self.window)
        ring = put(state.ring, place[:, None], bits[:, None])
        count, since = state.count + active, state.since + active
        seen = jnp.minimum(count, self.window)
        mean = jnp.sum(ring, axis=1) / jnp.maximum(seen, 1)
        ready = jnp.asarray(self.partial) | (count >= self.window)
        waited = (since >= self.hold) | ~(jnp.asarray(self.both) | state.large)
        change = active & ready & waited & ((mean > self.threshold) != state.large)
        empty = change & jnp.asarray(self.reset)
        return Rolling(
            large=state.large ^ change,
            ring=jnp.where(empty[:, None], 0.0, ring),
            count=jnp.where(empty, 0, count),
            since=jnp.where(change, 0, since),
        )


@struct.dataclass
class Coin:
    """At random: the control of a switch that writes as large a share in runs as long.

    The large model takes over with probability `enter` after a token and hands back with
    probability `leave`: its share tends to enter / (enter + leave), its runs average 1 / leave.
    """

    enter: Float[Array, ""] | float
    leave: Float[Array, ""] | float
    start_large: Bool[Array, ""] | bool = False

    def __post_init__(self) -> None:
        check_number("enter", self.enter, 0.0, 1.0)
        check_number("leave", self.leave, 0.0, 1.0)

    def init(self, rows: int) -> Bool[Array, "R"]:
        return jnp.broadcast_to(jnp.asarray(self.start_large, bool), (rows,))

    def large(self, state: Bool[Array, "R"]) -> Bool[Array, "R"]:
        return state

    def observe(
        self, state: Array, keys: Key[Array, "R"], bits: Float[Array, "R"], active: Array
    ) -> Bool[Array, "R"]:
        chance = jnp.where(state, self.leave, self.enter)
        return state ^ (active & (jax.vmap(jax.random.uniform)(keys) < chance))


@struct.dataclass
class Turns:
    """In turn, so many tokens each: the control without a draw. State: tokens so far."""

    small_tokens: Int[Array, ""] | int
    large_tokens: Int[Array, ""] | int

    def __post_init__(self) -> None:
        for name in ("small_tokens", "large_tokens"):
            check_number(name, getattr(self, name), 1)

    def init(self, rows: int) -> Int[Array, "R"]:
        return jnp.zeros((rows,), jnp.int32)

    def large(self, state: Int[Array, "R"]) -> Bool[Array, "R"]:
        return state % (self.small_tokens + self.large_tokens) >= self.small_tokens

    def observe(
        self, state: Array, keys: Key[Array, "R"], bits: Float[Array, "R"], active: Array
    ) -> Int[Array, "R"]:
        return state + active


@struct.dataclass
class Routed:
    """A question is the large model's for good if its first tokens are uncertain.

    Attributes:
      rolling: its window is how many tokens the small model writes before, its threshold decides.
    """

    rolling: RollingEntropy

    @classmethod
    def by(cls, threshold: Float[Array, ""] | float, tokens: int) -> Routed:
        """By the mean entropy of so many tokens, in bits."""
        return cls(RollingEntropy(threshold, tokens, 1, partial=False))

    def init(self, rows: int) -> Rolling:
        return self.rolling.init(rows)

    def large(self, state: Rolling) -> Bool[Array, "R"]:
        return state.large

    def observe(
        self, state: Rolling, keys: Key[Array, "R"], bits: Float[Array, "R"], active: Array
    ) -> Rolling:
        open_ = active & (state.count < self.rolling.window)
        after = self.rolling.observe(state, keys, bits, open_)
        return after._replace(large=state.large | after.large)
