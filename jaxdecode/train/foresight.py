"""The loss of a head that foresees acceptance, from soft labels (Huang et al. 2024,
arXiv 2405.19715).

    L = - sum_i [ a_i log P_i + w (1 - a_i) log(1 - P_i) ] / sum_i [ a_i + w (1 - a_i) ]

Rejections are rarer than acceptances, and weigh w times as much. Its minimiser for a constant
label is P = a / (a + w (1 - a)): with w > 1 the head is pessimistic by design, and a threshold
on its products is to be tuned after w was chosen.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode.types import Array, Bool, Float


@runtime_checkable
class TwoWay(Protocol):
    """A classifier of hidden states: rejected, accepted."""

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... 2"]:
        """f32[..., 2], rejected and accepted."""
        ...


def acceptance(
    head: TwoWay,
    hidden: Float[Array, "B T D"],
    label: Float[Array, "B T"],
    counted: Bool[Array, "B T"],
    rejection: Float[Array, ""] | float = 6.0,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Weighted cross-entropy over the counted tokens.

    Args:
      hidden: the draft model's, behind the token whose acceptance `label` is.
      rejection: w.
    Returns:
      the loss, and as metrics `divergence`, the mean KL(label || P) without weights, and the
      means `label` and `predicted`; `weight`, the loss's denominator.
    """
    logp = jax.nn.log_softmax(head.logits(jax.lax.stop_gradient(hidden)), axis=-1)
    log_no, log_yes = logp[..., 0], logp[..., 1]
    yes, no = label, 1 - label
    weight = jnp.where(counted, yes + rejection * no, 0.0)
    loss = jnp.where(counted, -(yes * log_yes + rejection * no * log_no), 0.0)

    def mean(values: Array) -> Array:
        return jnp.sum(jnp.where(counted, values, 0.0)) / jnp.maximum(counted.sum(), 1)

    entropy = -(jax.scipy.special.xlogy(yes, yes) + jax.scipy.special.xlogy(no, no))
    return loss.sum() / jnp.maximum(weight.sum(), 1e-6), {
        "divergence": mean(-(yes * log_yes + no * log_no) - entropy),
        "label": mean(yes),
        "predicted": mean(jnp.exp(log_yes)),
        "weight": weight.sum(),
    }
