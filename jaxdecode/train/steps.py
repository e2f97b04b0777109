"""The loss of a process reward model, from labels that say where a solution went wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.train.losses import Forward
from jaxdecode.types import Array, Bool, Float, Int


def correctness(
    model: Forward,
    tokens: Int[Array, "B T"],
    right: Bool[Array, "B T"],
    loss_mask: Bool[Array, "B T"],
    ends: Bool[Array, "B T"],
    length: Int[Array, "B"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Cross-entropy of "nothing is wrong so far", in nats, at every token of `loss_mask`.

    The model's one output at a token is the logit of `right` there. Steps are judged at the
    tokens of `ends` alone; labels in between say sooner, and more often, what was wrong.
    Metrics: `accuracy` at the ends, `caught` the share of wrong steps among them found wrong,
    `right` the share of right ones; `weight`, the number of tokens the loss is the mean of.
    """
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    outputs, _ = model.forward(tokens, valid)
    logit, label = outputs[..., 0], right.astype(jnp.float32)
    loss = jax.nn.softplus(logit) - label * logit

    def mean(values: Array, mask: Array) -> Array:
        weight = (mask & valid).astype(jnp.float32)
        return jnp.sum(values * weight) / jnp.maximum(weight.sum(), 1.0)

    hit = ((logit > 0) == right).astype(jnp.float32)
    return mean(loss, loss_mask), {
        "accuracy": mean(hit, ends),
        "caught": mean(hit, ends & ~right),
        "right": mean(label, ends),
        "weight": jnp.sum((loss_mask & valid).astype(jnp.float32)),
    }
