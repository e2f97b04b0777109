"""Prompt and response as one sequence, and what a model thinks of the response.

The log-probability of a response is the sum over its tokens, its end token included, under the
model's raw distribution: that of sampling at temperature 1 without filters.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode.cache import spread
from jaxdecode.prompt import Prompt
from jaxdecode.train.losses import Forward
from jaxdecode.types import Array, Bool, Float, Int


class Sequences(NamedTuple):
    """R texts, prompt and response joined without a gap.

    Attributes:
      tokens: i32[R, T].
      length: i32[R], tokens of both.
      said: bool[R, T], the response's tokens.
    """

    tokens: Int[Array, "R T"]
    length: Int[Array, "R"]
    said: Bool[Array, "R T"]


def join(prompt: Prompt, tokens: Int[Array, "R L"], length: Int[Array, "R"]) -> Sequences:
    """Row r of the prompts followed by response r; T = P + L."""
    width, room = prompt.tokens.shape[1], tokens.shape[1]
    index = jnp.arange(width + room)
    start = prompt.length[:, None]
    said = (index >= start) & (index < start + length[:, None])
    at = jnp.broadcast_to(jnp.clip(index - start, 0, room - 1), said.shape)
    given = jnp.broadcast_to(jnp.minimum(index, width - 1), said.shape)
    joined = jnp.where(
        said,
        jnp.take_along_axis(tokens, at, axis=1),
        jnp.where(index < start, jnp.take_along_axis(prompt.tokens, given, axis=1), 0),
    )
    return Sequences(joined, prompt.length + length, said)


def token_logprobs(
    model: Forward, sequences: Sequences
) -> tuple[Float[Array, "R Tm1"], Float[Array, "R Tm1 D"]]:
    """log p of tokens 1..T-1, zero where nothing is said, and the hidden states before them."""
    tokens, length, said = sequences
    valid = jnp.arange(tokens.shape[1] - 1) < length[:, None]
    logits, hidden = model.forward(tokens[:, :-1], valid)
    chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=2)[..., 0]
    logprob = chosen - jax.nn.logsumexp(logits, axis=2)
    return jnp.where(said[:, 1:], logprob, 0.0), hidden


def logprobs(model: Forward, sequences: Sequences) -> Float[Array, "R"]:
    """log p of the responses."""
    return jnp.sum(token_logprobs(model, sequences)[0], axis=1)


@jax.jit
def response_logprobs(
    model: Forward, prompt: Prompt, tokens: Int[Array, "B K L"], length: Int[Array, "B K"]
) -> Float[Array, "B K"]:
    """log p of K responses to each prompt, as one compiled program."""
    flat = spread(prompt, tokens.shape[1])
    both = join(flat, tokens.reshape(-1, tokens.shape[2]), length.reshape(-1))
    return logprobs(model, both).reshape(length.shape)


def divergence(model: Forward, reference: Forward, sequences: Sequences) -> Float[Array, "R"]:
    """The sum over a response's tokens of D(model || reference) of the next token, in nats.

    Over responses of `model` its mean is the divergence of whole responses, as that of
    log model / reference is; no term is negative, so that far fewer responses tell it.
    """
    tokens, length, said = sequences
    valid = jnp.arange(tokens.shape[1] - 1) < length[:, None]
    own, other = (
        jax.nn.log_softmax(one.forward(tokens[:, :-1], valid)[0]) for one in (model, reference)
    )
    each = jnp.sum(jnp.exp(own) * jnp.where(jnp.isfinite(own), own - other, 0.0), axis=2)
    return jnp.sum(jnp.where(said[:, 1:], each, 0.0), axis=1)
