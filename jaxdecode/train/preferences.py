"""Losses on pairs of responses, without sampling: DPO, IPO and best-of-N distillation.

With h = log pi(y_w) / pi(y_l) - log pi_ref(y_w) / pi_ref(y_l) over whole responses,

    DPO     -log sigmoid(beta h)                        (Rafailov et al. 2023, arXiv 2305.18290)
    IPO     (h - 1 / (2 beta))^2                        (Azar et al. 2023, arXiv 2310.12036)
    BoNBoN  alpha (-log pi(y_w)) + (1 - alpha)(h - m)^2,  m = (N - 1) H_(N-1)
                                                        (Gui et al. 2024, arXiv 2406.00832)

BoNBoN's y_w and y_l are the best and the worst of N base responses; h of the best-of-N policy has
the mean m on such pairs, with H the harmonic number. Imitating y_w alone is fine-tuning on
best-of-N. IPO's h is of whole responses, as in the paper; TRL's is of their tokens' mean
log-probabilities, which `ipo(beta, average=True)` gives: another beta, and no liking for length.

The reference's log-probabilities are constants of the data: compute them once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.train.losses import Forward
from jaxdecode.train.sequences import Sequences, logprobs
from jaxdecode.types import Array, Float

Metrics = dict[str, Array]


def bonbon_margin(samples: int) -> float:
    """m = (N - 1) H_(N-1), which is 1 / (2 beta_N).

    Raises:
      ValueError: for fewer than two samples, which have no best and worst.
    """
    if samples < 2:
        raise ValueError(f"samples={samples}: a best and a worst take at least two")
    return (samples - 1) * sum(1.0 / k for k in range(1, samples))


@struct.dataclass
class PairTerms:
    """Coefficients of `pair_loss`; leaves, so that all of its losses are one compiled program.

    Attributes:
      logistic: weight of -log sigmoid(scale h).
      squared: weight of (h - margin)^2.
      imitation: weight of -log pi(y_w).
      average: 1 makes h of mean log-probabilities a token, 0 of sums.
    """

    logistic: float | Float[Array, ""] = 0.0
    squared: float | Float[Array, ""] = 0.0
    imitation: float | Float[Array, ""] = 0.0
    scale: float | Float[Array, ""] = 1.0
    margin: float | Float[Array, ""] = 0.0
    average: float | Float[Array, ""] = 0.0


def pair_loss(
    model: Forward,
    terms: PairTerms,
    chosen: Sequences,
    rejected: Sequences,
    chosen_reference: Float[Array, "R"],
    rejected_reference: Float[Array, "R"],
) -> tuple[Float[Array, ""], Metrics]:
    """A loss for `jaxdecode.train.fit`, the mean over pairs of preferred and other responses.

    The references are log pi_ref of the responses.
    """
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), chosen, rejected)
    good, bad = jnp.split(logprobs(model, both), 2)

    def ratio(own: Array, reference: Array, said: Array) -> Array:
        return (own - reference) / jnp.sum(said, axis=1).astype(jnp.float32) ** terms.average

    h = ratio(good, chosen_reference, chosen.said) - ratio(bad, rejected_reference, rejected.said)
    loss = (
        terms.logistic * jax.nn.softplus(-terms.scale * h)
        + terms.squared * jnp.square(h - terms.margin)
        - terms.imitation * good
    )
    return jnp.mean(loss), {
        "margin": jnp.mean(h),
        "accuracy": jnp.mean((h > 0).astype(jnp.float32)),
    }


def dpo(beta: float) -> PairTerms:
    """-log sigmoid of the margin (Rafailov et al. 2023, eq. 7)."""
    return PairTerms(logistic=1.0, scale=_positive(beta))


def ipo(beta: float, average: bool = False) -> PairTerms:
    """The squared distance of the margin from its goal (Azar et al. 2023, eq. 17).

    `average` takes log-probabilities a token, not of whole responses.
    """
    return PairTerms(squared=1.0, margin=0.5 / _positive(beta), average=float(average))


def bonbon(samples: int, alpha: float = 0.005, margin: float | None = None) -> PairTerms:
    """`margin` is the method's own unless given: a smaller one stops at a smaller KL."""
    own = bonbon_margin(samples)
    return PairTerms(squared=1.0 - alpha, imitation=alpha, margin=own if margin is None else margin)


def imitation() -> PairTerms:
    """Fine-tuning on the preferred responses alone."""
    return PairTerms(imitation=1.0)


def _positive(beta: float) -> float:
    if not beta > 0:
        raise ValueError(f"beta={beta}: the strength of the KL penalty must be positive")
    return beta
