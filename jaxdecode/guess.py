"""What a pass says of the places of a canvas, and the contracts of those who act on it.

A *chooser* says which undecided places of the block are decided now, a *remasker* which decided
ones are open again, a *schedule* how many places a step is to decide. Places are ranked by one
rule everywhere: falling score, and of equal scores the first place first.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.types import Array, Bool, Float, Int, Key

Order = Literal["confidence", "margin", "entropy", "random", "left"]
ORDERS = ("confidence", "margin", "entropy", "random", "left")


@struct.dataclass
class Guess:
    """The tokens that T places of R rows would get, and how sure the denoiser is of them.

    Attributes:
      token: i32[R, T]; -1 where the logits are unusable.
      law: f32[R, T, V], log-probabilities of the raw law: temperature 1, no filter, no mask.
    """

    token: Int[Array, "R T"]
    law: Float[Array, "R T V"]

    @property
    def confidence(self) -> Float[Array, "R T"]:
        """The probability of the token."""
        return jnp.exp(self.logprob(self.token))

    @property
    def margin(self) -> Float[Array, "R T"]:
        """How much likelier the first token is than the second."""
        top = jnp.exp(jax.lax.top_k(self.law, 2)[0])
        return top[..., 0] - top[..., 1]

    @property
    def entropy(self) -> Float[Array, "R T"]:
        """In nats."""
        p = jnp.exp(self.law)
        return -jnp.sum(jnp.where(p > 0, p * self.law, 0.0), axis=-1)

    def logprob(self, token: Int[Array, "R T"]) -> Float[Array, "R T"]:
        """Of any tokens; a negative one reads as token 0."""
        at = jnp.maximum(token, 0)[..., None]
        return jnp.take_along_axis(self.law, at, axis=-1)[..., 0]


@struct.dataclass
class Sight:
    """One block of every row, as it stands before a step.

    Attributes:
      guess: of its T places.
      open: bool[R, T], the places that can be decided.
      done: bool[R, T], the places that were decided in earlier steps; neither the prompt nor what
        was cut off is one of them.
      place: i32[R], the first place of the block, counted from the first after the prompt.
      step: i32[R], steps made in this block before this one.
      entered: i32[R], places that were open when the block was entered.
      key: one key a row, which depends on the number of tokens decided so far.
      coin: one key a row, which depends on the number of passes made so far.
    """

    guess: Guess
    open: Bool[Array, "R T"]
    done: Bool[Array, "R T"]
    place: Int[Array, "R"]
    step: Int[Array, "R"]
    entered: Int[Array, "R"]
    key: Key[Array, "R"]
    coin: Key[Array, "R"]

    @property
    def left(self) -> Int[Array, "R"]:
        """Open places."""
        return jnp.sum(self.open, axis=1)

    def score(self, order: Order) -> Float[Array, "R T"]:
        """What places are ranked by; larger is sooner."""
        match order:
            case "confidence":
                return self.guess.confidence
            case "margin":
                return self.guess.margin
            case "entropy":
                return -self.guess.entropy
            case "random":
                count = self.open.shape[1]
                return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(self.key)
            case "left":
                return -jnp.broadcast_to(jnp.arange(self.open.shape[1]) * 1.0, self.open.shape)


@struct.dataclass
class Choice:
    """What a chooser decides.

    Attributes:
      accept: bool[R, T], decided now; places that are not open are ignored.
      token: i32[R, T], the tokens they get.
      sure: bool[R, T], those that the rule accepted; the rest was forced so that a step is made.
    """

    accept: Bool[Array, "R T"]
    token: Int[Array, "R T"]
    sure: Bool[Array, "R T"]

    @classmethod
    def of(cls, sight: Sight, sure: Bool[Array, "R T"], accept: Array | None = None) -> Choice:
        """The guessed tokens at `accept`, by default where the rule is sure."""
        sure = sure & sight.open
        accept = sure if accept is None else accept & sight.open
        return cls(accept, sight.guess.token, sure)


@runtime_checkable
class Chooser(Protocol):
    """Decides places of the block; its state's leaves lead with the rows."""

    def init(self, rows: int, block: int) -> Any: ...

    def __call__(self, state: Any, sight: Sight) -> tuple[Choice, Any]: ...


@runtime_checkable
class Remasker(Protocol):
    """Opens decided places of the block again; its state's leaves lead with the rows."""

    def init(self, rows: int, block: int) -> Any: ...

    def __call__(
        self, state: Any, sight: Sight, done: Bool[Array, "R T"], logprob: Float[Array, "R T"]
    ) -> tuple[Bool[Array, "R T"], Any]:
        """The places to open, among those `done` once this step's are decided.

        `logprob` is what each had when it was decided; `sight` is as before the step.
        """
        ...


@runtime_checkable
class Schedule(Protocol):
    """How many places of a block a step decides, at least; what is open bounds it."""

    def __call__(self, sight: Sight) -> Int[Array, "R"]: ...


def ranks(score: Float[Array, "R T"], eligible: Bool[Array, "R T"]) -> Int[Array, "R T"]:
    """0 for the eligible place of the highest score; of equal ones the first comes first.

    Places that are not eligible follow all that are. Every place is compared with every other:
    blocks are short, and a sort takes longer to run and much longer to compile.
    """
    low = jnp.finfo(jnp.float32).min
    score = jnp.where(eligible, jnp.maximum(score, low), -jnp.inf)
    mine, other = score[:, :, None], score[:, None, :]
    place = jnp.arange(score.shape[1])
    sooner = (other > mine) | ((other == mine) & (place < place[:, None]))
    return jnp.sum(sooner, axis=2, dtype=jnp.int32)


def in_order(values: Float[Array, "R T"], rank: Int[Array, "R T"]) -> Float[Array, "R T"]:
    """The values of the places of rank 0, 1, ..."""
    at = rank[:, None, :] == jnp.arange(rank.shape[1])[:, None]
    return jnp.sum(jnp.where(at, values[:, None, :], 0.0), axis=2)
