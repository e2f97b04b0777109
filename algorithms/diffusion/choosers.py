"""Choosers that decide as many places as the guesses allow, and at least the best one.

All look at the open places of the current block, sorted by falling confidence c_1 >= c_2 >= ...

    Threshold         all with c >= gamma                                  (Fast-dLLM, 2505.22618)
    Factor            the first n, n the last in a row with (n + 1)(1 - c_n) <= f       (the same)
    EntropyBounded    the first k with sum H_j - max H_j <= gamma, H_j the entropies in nats of
                      places sorted by an error proxy                       (Ben-Hamu, 2505.24857)
    Steady            all with c > confidence whose law moved by less than KL < drift in each of
                      the last steps, else what a schedule says                (KLASS, 2511.05664)

The product of n marginals has the mode of their joint law if each gives its mode a probability
above 1 - e with (n + 1) e <= 1: that is what `Factor` at f = 1 asks for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.choose import Fixed, check_order
from jaxdecode.guess import Choice, Order, Schedule, Sight, in_order, ranks
from jaxdecode.types import Array, Bool, Float, Int

SLACK = 1e-6
"""What rounding may add to either side of a bound that is met exactly."""

FAR = 50.0
"""Nats by which an end that is to come last is made less likely."""


def forced(sight: Sight, sure: Bool[Array, "R T"]) -> Choice:
    """What the rule is sure of, and the most confident place in any case."""
    best = ranks(sight.guess.confidence, sight.open) == 0
    return Choice.of(sight, sure, sure | best)


@struct.dataclass
class Threshold:
    """Every place whose guess has at least this confidence; the published sweep is 0.5 to 1."""

    gamma: Float[Array, ""] | float = 0.9

    def __post_init__(self) -> None:
        check_share("gamma", self.gamma)

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        return forced(sight, sight.guess.confidence >= self.gamma), state


@struct.dataclass
class Factor:
    """As many places as have (n + 1)(1 - c_n) <= factor; the published sweep is 0.7 to 1.9.

    Attributes:
      quirk: static; as the published loop, which decides the last open place too where it is
        the first to fail.
    """

    factor: Float[Array, ""] | float = 1.0
    quirk: bool = struct.field(pytree_node=False, default=False)

    def __post_init__(self) -> None:
        if isinstance(self.factor, float | int) and self.factor < 0:
            raise ValueError(f"factor={self.factor}: 0 decides one place a step; give no less")

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        rank = ranks(sight.guess.confidence, sight.open)
        falling = in_order(sight.guess.confidence, rank)
        number = 1 + jnp.arange(rank.shape[1])
        holds = (number + 1) * (1 - falling) <= self.factor + SLACK
        count = leading(holds & (number <= sight.left[:, None]))
        if self.quirk:
            count += count == sight.left - 1
        return forced(sight, rank < count[:, None]), state


@struct.dataclass
class EntropyBounded:
    """As many places as keep the entropy beside the largest one within gamma, in nats.

    The bound says what deciding them together can lose; one place is always within it.

    Attributes:
      gamma: published values are 0.01 to 0.1.
      proxy: static; what places are sorted by.
    """

    gamma: Float[Array, ""] | float = 0.1
    proxy: Order = struct.field(pytree_node=False, default="entropy")

    def __post_init__(self) -> None:
        check_order(self.proxy)
        if isinstance(self.gamma, float | int) and self.gamma < 0:
            raise ValueError(f"gamma={self.gamma}: an entropy in nats, 0 or more")

    def init(self, rows: int, block: int) -> tuple[Any, ...]:
        return ()

    def __call__(self, state: tuple[Any, ...], sight: Sight) -> tuple[Choice, tuple[Any, ...]]:
        rank = ranks(sight.score(self.proxy), sight.open)
        entropy = in_order(sight.guess.entropy, rank)
        entropy = jnp.where(jnp.arange(rank.shape[1]) < sight.left[:, None], entropy, 0.0)
        lost = jnp.cumsum(entropy, axis=1) - cumulative_max(entropy)
        count = leading(lost <= self.gamma + SLACK)
        sure = rank < count[:, None]
        return Choice.of(sight, sure, sure), state


@struct.dataclass
class Steady:
    """Places that are confident and whose law has stopped moving (KLASS).

    A place is sure when c > `confidence` and KL(law now || law a step ago) < `drift` in each of
    the last `steps` steps of its block; where none is, `schedule` says how many of the most
    confident are decided.
    """

    confidence: Float[Array, ""] | float = 0.9
    drift: Float[Array, ""] | float = 0.01
    schedule: Schedule = Fixed()
    steps: int = struct.field(pytree_node=False, default=2)
    vocab: int = struct.field(pytree_node=False, default=0)

    def __post_init__(self) -> None:
        if self.vocab < 1:
            raise ValueError(f"vocab={self.vocab}: the size of the denoiser's vocabulary is needed")

    def init(self, rows: int, block: int) -> tuple[Array, Array]:
        """The laws of the last step, and for how many steps each has been steady."""
        laws = jnp.zeros((rows, block, self.vocab), jnp.float32)
        return laws, jnp.zeros((rows, block), jnp.int32)

    def __call__(self, state: tuple[Array, Array], sight: Sight) -> tuple[Choice, Any]:
        before, still = state
        law = sight.guess.law
        p = jnp.exp(law)
        moved = jnp.sum(jnp.where(p > 0, p * (law - before), 0.0), axis=-1)
        still = jnp.where((sight.step > 0)[:, None] & (moved < self.drift), still + 1, 0)
        sure = (sight.guess.confidence > self.confidence) & (still >= self.steps) & sight.open
        quota = jnp.where(jnp.any(sure, axis=1), 0, jnp.maximum(self.schedule(sight), 1))
        best = ranks(sight.guess.confidence, sight.open) < quota[:, None]
        return Choice.of(sight, sure, sure | best), (law, still)


@struct.dataclass
class EndsLast:
    """Another chooser that is shown ends as less confident than any other guess (LLaDA).

    Padding with ends in training makes ends the surest guess everywhere; ranked last they are
    still chosen, in their own order, once nothing else is open. Choosers that rank by what does
    not depend on the guess, and bounds on the entropy of what is decided, are refused.

    Attributes:
      eos: i32[E], the ends.
    """

    chooser: Any
    eos: Int[Array, "E"]

    def __post_init__(self) -> None:
        inner = self.chooser
        while isinstance(inner, InTurn | EndsLast):
            inner = inner.chooser
        order = "entropy" if isinstance(inner, EntropyBounded) else getattr(inner, "order", "")
        if order in ("entropy", "random", "left"):
            raise ValueError(
                f"chooser: {type(inner).__name__} goes by {order}, which does not see what is "
                "guessed; use one that ranks by confidence or margin"
            )

    def init(self, rows: int, block: int) -> Any:
        return self.chooser.init(rows, block)

    def __call__(self, state: Any, sight: Sight) -> tuple[Choice, Any]:
        ends = jnp.any(sight.guess.token[..., None] == self.eos, axis=-1)
        law = sight.guess.law - jnp.where(ends, FAR, 0.0)[..., None]
        return self.chooser(state, replace(sight, guess=replace(sight.guess, law=law)))


@struct.dataclass
class InTurn:
    """Another chooser that is shown the first sub-block with an open place and none behind it.

    Steps are counted in the block and not in the sub-block: choosers that count them are refused.

    Attributes:
      size: static, places of a sub-block.
    """

    chooser: Any
    size: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: at least one place")
        parts = self.chooser, getattr(self.chooser, "schedule", None)
        if any(hasattr(part, "steps") for part in parts):
            raise ValueError(
                f"chooser={self.chooser}: it goes by the steps of its block, and those of a "
                "sub-block are others; use Top(Fixed(k)), or a rule that looks at guesses alone"
            )

    def init(self, rows: int, block: int) -> Any:
        return self.chooser.init(rows, block)

    def __call__(self, state: Any, sight: Sight) -> tuple[Choice, Any]:
        turn = jnp.arange(sight.open.shape[1]) // self.size
        first = jnp.min(jnp.where(sight.open, turn, turn[-1] + 1), axis=1, keepdims=True)
        return self.chooser(state, replace(sight, open=sight.open & (turn == first)))


def check_share(name: str, value: Any) -> None:
    """Raises ValueError for a threshold on probabilities that is none."""
    if isinstance(value, float | int) and not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must lie in 0..1, as what it is compared with does")


def leading(holds: Bool[Array, "R T"]) -> Int[Array, "R"]:
    """How many hold in a row, from the first on."""
    return jnp.sum(jnp.cumprod(holds.astype(jnp.int32), axis=1), axis=1)


def cumulative_max(values: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """The largest so far."""
    return jnp.maximum.accumulate(values, axis=1)
