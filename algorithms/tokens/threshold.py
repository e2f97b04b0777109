"""AdaDec's threshold: the entropy from which a model's first choice is more likely wrong.

A model reads right answers token by token; of each token are noted the entropy H of the law
before it, in nats, and whether it was the most probable one. A logistic curve

    P(first | H) = 1 / (1 + exp(-(c + w H)))

is fitted to a part in which both outcomes are equally frequent, the cut t of the highest accuracy
is sought on a held-out part as it is, and h = (ln(t / (1 - t)) - c) / w. Balancing moves the
curve, and the cut moves it back: h is about where P is 1/2 as things are, and far above -c / w,
where it is 1/2 on the balanced part.

He et al. 2025, arXiv 2506.08980. The curve is fitted by Newton's method in double precision, with
half the square of w as a penalty beside the sum of the losses.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxdecode import entropy
from jaxdecode.train.losses import Forward
from jaxdecode.types import Array, Bool, Float, Int

CUTS = np.arange(1, 100) / 100
HELD_OUT = 0.2


@dataclass(frozen=True)
class Threshold:
    """A threshold and how it was found.

    Attributes:
      value: h, in nats; 0 where it would be less, as of a model that is always more likely wrong.
      weight, bias: w and c.
      cut: t.
      first: share of the tokens that were the model's first choice.
      above: share of the tokens before which the entropy reaches h.
      tokens: that were read.
      model: fingerprint of the model that read them.
    """

    value: float
    weight: float
    bias: float
    cut: float
    first: float
    above: float
    tokens: int
    model: str = ""

    @property
    def balanced(self) -> float:
        """-c / w: where the curve itself is 1/2, which pauses far more often."""
        return -self.bias / self.weight

    def of(self, model: str) -> float:
        """The value, for the model with this fingerprint.

        Raises:
          ValueError: it was learned from another model.
        """
        if model != self.model:
            raise ValueError(
                f"threshold: it was learned from the model {self.model[:12]}..., not from "
                f"{model[:12]}...; learn one for each model"
            )
        return self.value

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def loads(cls, text: str) -> Threshold:
        """From what `dumps` wrote.

        Raises:
          ValueError: the text is something else.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(f"threshold: the text is no stored threshold ({error})") from error


@jax.jit
def read(
    model: Forward, tokens: Int[Array, "B T"], said: Bool[Array, "B T"], length: Int[Array, "B"]
) -> tuple[Float[Array, "B Tm1"], Int[Array, "B Tm1"]]:
    """Entropy before tokens 1..T-1, in nats, and their ranks; rank 0 where nothing is said."""
    valid = jnp.arange(tokens.shape[1] - 1) < length[:, None]
    logits, _ = model.forward(tokens[:, :-1], valid)
    rank = jnp.where(said[:, 1:], entropy.rank(logits, tokens[:, 1:]), 0)
    return entropy.nats(logits), rank


def logistic(
    x: NDArray[np.floating], y: NDArray[np.bool_], steps: int = 100
) -> tuple[float, float]:
    """(w, c) of the penalised maximum of likelihood of P(y | x)."""
    design = np.stack([np.asarray(x, np.float64), np.ones(len(x))], axis=1)
    label, penalty, theta = np.asarray(y, np.float64), np.diag([1.0, 0.0]), np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -500, 500)))
        gradient = design.T @ (p - label) + penalty @ theta
        hessian = (design * (p * (1 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        theta = theta - step
        if np.abs(step).max() < 1e-10:
            break
    return float(theta[0]), float(theta[1])


def at(cut: float, weight: float, bias: float) -> float:
    """h of a cut."""
    return (math.log(cut / (1 - cut)) - bias) / weight


def learn(
    entropies: NDArray[np.floating], first: NDArray[np.bool_], seed: int = 0, model: str = ""
) -> Threshold:
    """The threshold from f[N] entropies and bool[N] whether the token was the first choice.

    Raises:
      ValueError: both outcomes do not occur often enough, or the first choice is right no less
        often where the entropy is high.
    """
    x, y = np.asarray(entropies, np.float64), np.asarray(first, bool)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    held, train = np.split(order, [int(HELD_OUT * len(x))])
    sides = [train[y[train]], train[~y[train]]]
    least = min(map(len, sides))
    if least < 10 or len(held) == 0:
        raise ValueError(
            f"first: {y.sum()} of {len(y)} tokens are the model's first choice; ten or more of "
            "either kind are needed in four fifths of them"
        )
    rows = np.concatenate([rng.permutation(side)[:least] for side in sides])
    weight, bias = logistic(x[rows], y[rows])
    if weight >= 0:
        raise ValueError(
            f"entropies: the first choice is no less often right where they are high (w={weight:g})"
            "; this model's entropy says nothing to pause by"
        )
    p = 1 / (1 + np.exp(-(bias + weight * x[held])))
    accuracy = [np.mean((p >= cut) == y[held]) for cut in CUTS]
    cut = float(CUTS[int(np.argmax(accuracy))])
    value = max(at(cut, weight, bias), 0.0)
    share: dict[str, Any] = {"first": float(y.mean()), "above": float(np.mean(x >= value))}
    return Threshold(value, weight, bias, cut, **share, tokens=len(x), model=model)
