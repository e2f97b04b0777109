"""Penalties on tokens that occurred before.

Repetition counts the prompt and the output, presence and frequency the output alone, as is
customary. Each keeps one row of the vocabulary per row of the batch, whose width must be
known before the first logits are: hence `vocab_size`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.logits.transform import check_number
from jaxdecode.prompt import Prompt
from jaxdecode.ranges import HUGE
from jaxdecode.types import Array, Bool, Float, Int


def mark(
    seen: Bool[Array, "R V"], tokens: Int[Array, "R T"], valid: Bool[Array, "R T"]
) -> Bool[Array, "R V"]:
    """`seen` with the valid tokens of every row added."""
    row = jnp.arange(seen.shape[0])[:, None]
    return seen.at[row, jnp.where(valid, tokens, seen.shape[1])].set(True, mode="drop")


def check_width(vocab_size: int, logits: Float[Array, "R V"]) -> None:
    """Refuse, when traced, logits of another vocabulary."""
    if logits.shape[1] != vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} but the logits have {logits.shape[1]} tokens; "
            "pass the model's vocab_size"
        )


@struct.dataclass
class RepetitionPenalty:
    """Divides the logit of a token seen in prompt or output by `penalty`, or multiplies it
    where it is negative. Above 1 discourages. Keskar et al. 2019, arXiv:1909.05858."""

    rises = False

    penalty: Float[Array, ""] | float
    vocab_size: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        check_number("penalty", self.penalty, 0.0, above=True, fix="; 1 is no penalty")

    def init(self, prompt: Prompt) -> Bool[Array, "R V"]:
        valid = jnp.arange(prompt.tokens.shape[1]) < prompt.length[:, None]
        return mark(jnp.zeros((prompt.batch, self.vocab_size), bool), prompt.tokens, valid)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        check_width(self.vocab_size, logits)
        scaled = jnp.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return jnp.where(state, scaled, logits)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        return mark(state, token[:, None], active[:, None])


@struct.dataclass
class PresencePenalty:
    """Subtracts `penalty` from the logit of every token in the output; negative encourages."""

    penalty: Float[Array, ""] | float = struct.field(range=(-HUGE, HUGE))
    vocab_size: int = struct.field(pytree_node=False)

    @property
    def rises(self) -> Bool[Array, ""]:
        """A penalty below 0 lifts logits."""
        return jnp.asarray(self.penalty) < 0

    def init(self, prompt: Prompt) -> Bool[Array, "R V"]:
        return jnp.zeros((prompt.batch, self.vocab_size), bool)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        check_width(self.vocab_size, logits)
        return jnp.where(state, logits - self.penalty, logits)

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        return mark(state, token[:, None], active[:, None])


@struct.dataclass
class FrequencyPenalty:
    """Subtracts `penalty` times a token's count in the output; negative encourages."""

    penalty: Float[Array, ""] | float = struct.field(range=(-HUGE, HUGE))
    vocab_size: int = struct.field(pytree_node=False)

    @property
    def rises(self) -> Bool[Array, ""]:
        """A penalty below 0 lifts logits."""
        return jnp.asarray(self.penalty) < 0

    def init(self, prompt: Prompt) -> Int[Array, "R V"]:
        return jnp.zeros((prompt.batch, self.vocab_size), jnp.int32)

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        check_width(self.vocab_size, logits)
        return logits - self.penalty * state

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        row = jnp.arange(token.shape[0])
        return state.at[row, token].add(active.astype(jnp.int32), mode="drop")
