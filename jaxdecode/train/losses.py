"""Losses: (model, batch) -> (scalar, metrics), to be differentiated in the model.

A loss that is the mean over something other than the rows of the batch says over how many, as
the metric `weight`, so that a batch can be taken in parts (`jaxdecode.train.accumulate`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import chex
import jax
import jax.numpy as jnp

from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class Forward(Protocol):
    """A model that runs whole sequences at once, as training does."""

    def forward(
        self, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T C"], Float[Array, "B T D"]]:
        """Outputs and final hidden states at every token; valid tokens come first."""
        ...


@runtime_checkable
class Pairwise(Forward, Protocol):
    """A reward model: see `jaxdecode.scoring.RewardModel`."""

    def reward(self, outputs: Float[Array, "... C"]) -> Float[Array, "..."]: ...


def next_token(
    model: Forward,
    tokens: Int[Array, "B T"],
    loss_mask: Bool[Array, "B T"],
    length: Int[Array, "B"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Cross-entropy of the tokens that `loss_mask` names, each predicted from those before.

    The mean is over tokens, in nats; `accuracy` is that of the most probable token, `weight` the
    number of tokens predicted.
    """
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    logits, _ = model.forward(tokens[:, :-1], valid[:, :-1])
    return cross_entropy(logits, tokens[:, 1:], loss_mask[:, 1:].astype(jnp.float32))


def cross_entropy(
    logits: Float[Array, "B T V"], target: Int[Array, "B T"], weight: Float[Array, "B T"]
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The weighted mean over tokens, in nats, with the metrics of `next_token`."""
    chex.assert_rank(logits, 3)
    chex.assert_equal_shape([target, weight])
    chex.assert_equal_shape_prefix([logits, target], 2)
    chosen = jnp.take_along_axis(logits, target[..., None], axis=2)[..., 0]
    loss = jax.nn.logsumexp(logits, axis=2) - chosen
    total = jnp.maximum(weight.sum(), 1.0)
    right = (jnp.argmax(logits, axis=2) == target).astype(jnp.float32)
    mean = jnp.sum(loss * weight) / total
    return mean, {"accuracy": jnp.sum(right * weight) / total, "weight": weight.sum()}


def bradley_terry(
    model: Pairwise,
    chosen: Int[Array, "B T"],
    chosen_length: Int[Array, "B"],
    rejected: Int[Array, "B T"],
    rejected_length: Int[Array, "B"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """-log sigmoid(r(chosen) - r(rejected)), the reward read at each sequence's last token.

    Source: Bradley and Terry 1952; `accuracy` is the share of pairs ranked as labelled.
    """
    chex.assert_equal_shape([chosen, rejected])
    chex.assert_equal_shape([chosen_length, rejected_length])
    tokens = jnp.concatenate([chosen, rejected])
    length = jnp.concatenate([chosen_length, rejected_length])
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    outputs, _ = model.forward(tokens, valid)
    last = jnp.take_along_axis(outputs, length[:, None, None] - 1, axis=1)[:, 0]
    good, bad = jnp.split(model.reward(last), 2)
    margin = good - bad
    return jnp.mean(jax.nn.softplus(-margin)), {
        "accuracy": jnp.mean((margin > 0).astype(jnp.float32)),
        "margin": jnp.mean(margin),
    }
