"""The loss of a process reward model, from labels that say where a solution went wrong."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode.train.losses import cross_entropy
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class Speaking(Protocol):
    """A reward model that is still a language model."""

    def speak(
        self, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"] | None = None
    ) -> tuple[Float[Array, "B T C"], Float[Array, "B T V"]]:
        """Outputs and next-token logits of whole sequences."""
        ...


def correctness(
    model: Speaking,
    tokens: Int[Array, "B T"],
    right: Bool[Array, "B T"],
    loss_mask: Bool[Array, "B T"],
    ends: Bool[Array, "B T"],
    length: Int[Array, "B"],
    language: Float[Array, ""] | float = 0.0,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Cross-entropy of "nothing is wrong so far", in nats, at the tokens of `loss_mask`.

    The model's one output at a token is the logit of `right` there. Steps are judged at the
    tokens of `ends` alone, whose mean counts as much as that of all tokens: labels in between say
    sooner, and more often, what was wrong. What stands behind a wrong step is wrong whatever it
    says, and teaches nothing of steps: leave it out of `loss_mask`.

    Args:
      language: weight of the next-token loss on the tokens of `loss_mask` that are right, without
        which the backbone forgets what a right step would be.
    Returns:
      the loss, and as metrics, at the ends in `loss_mask`: `accuracy`, `caught` the share of
      wrong steps found wrong, `right` the share of right ones; `language`, the next-token loss;
      `weight`, the number of tokens that are judged.
    """
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    outputs, logits = model.speak(tokens, valid)
    logit, label = outputs[..., 0], right.astype(jnp.float32)
    loss = jax.nn.softplus(logit) - label * logit
    asked = loss_mask & valid
    ends = ends & asked

    def mean(values: Array, mask: Array) -> Array:
        weight = mask.astype(jnp.float32)
        return jnp.sum(values * weight) / jnp.maximum(weight.sum(), 1.0)

    hit = ((logit > 0) == right).astype(jnp.float32)
    spoken = (asked & right)[:, 1:].astype(jnp.float32)
    text, _ = cross_entropy(logits[:, :-1], tokens[:, 1:], spoken)
    return mean(loss, asked) + mean(loss, ends) + language * text, {
        "accuracy": mean(hit, ends),
        "caught": mean(hit, ends & ~right),
        "right": mean(label, ends),
        "language": text,
        "weight": jnp.sum(asked.astype(jnp.float32)),
    }
