"""Teaching a draft its target's distribution, and what a draft is worth to that target.

A draft trained on its target's probabilities p rather than on the text alone is accepted more
often (Zhou et al. 2024, DistillSpec, arXiv 2310.08461). Speculative sampling accepts a token
drawn from the draft's q with probability

    acceptance = sum_v min(p(v), q(v)),

and greedy decoding accepts where the two most probable tokens agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.train.losses import Forward
from jaxdecode.types import Array, Bool, Float, Int
from models.transformer import Transformer


def taught(
    batches: Callable[[int], Mapping[str, Any]], teacher: Callable[[], Transformer]
) -> Callable[[int], dict[str, Any]]:
    """Batches of `next_token` with the teacher's logits added; it is opened at the first."""
    opened = cache(teacher)
    read = jax.jit(lambda model, tokens: model.forward(tokens)[0])

    def batch(step: int) -> dict[str, Any]:
        arguments = dict(batches(step))
        return arguments | {"teacher": read(opened(), arguments["tokens"][:, :-1])}

    return batch


def distillation(
    model: Forward,
    tokens: Int[Array, "B T"],
    loss_mask: Bool[Array, "B T"],
    length: Int[Array, "B"],
    teacher: Float[Array, "B T-1 V"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """KL(p || q) in nats, the mean over the tokens that `loss_mask` names.

    Metrics, means over the same tokens: `text_loss` and `accuracy` of q on the text itself, and
    `acceptance` and `agreement` with p; see the module.
    """
    valid = jnp.arange(tokens.shape[1]) < length[:, None]
    logits, _ = model.forward(tokens[:, :-1], valid[:, :-1])
    logp, logq = jax.nn.log_softmax(teacher), jax.nn.log_softmax(logits)
    p, q = jnp.exp(logp), jnp.exp(logq)
    target, weight = tokens[:, 1:], loss_mask[:, 1:].astype(jnp.float32)
    best = jnp.argmax(logq, axis=2)

    def mean(values: Array) -> Array:
        return jnp.sum(values * weight) / jnp.maximum(weight.sum(), 1.0)

    return mean(jnp.sum(p * (logp - logq), axis=2)), {
        "text_loss": mean(-jnp.take_along_axis(logq, target[..., None], axis=2)[..., 0]),
        "accuracy": mean(best == target),
        "acceptance": mean(jnp.sum(jnp.minimum(p, q), axis=2)),
        "agreement": mean(best == jnp.argmax(logp, axis=2)),
    }
