"""What a draft or a head is worth to its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.zoo.recipe import HELD_OUT_STEPS, Batches, Score
from experiments.zoo.skills.skill import Skill, Skills
from experiments.zoo.skills.tokens import FREQUENT, Frequencies
from jaxdecode.types import Array, Float

MEASURE = "share of drawn drafts that the target accepts, sum over tokens of min(p, q)"


@dataclass(frozen=True)
class Accepted:
    """The acceptance that a score tells of, beside that of the tokens' frequencies.

    Attributes:
      score: tells `acceptance`, or `acceptance_0`, `acceptance_1`, ...
      training: batches of the target's text.
      size: V.
      exits: tokens that are drafted from one state.
    """

    score: Score
    training: Batches
    size: int
    exits: int = 1

    def __call__(self, model: Any) -> Skills:
        blind = Frequencies.counted(self.training, self.size, self.exits)
        own, other = self.score(model), self.score(blind)
        weight = round(own["weight"]) * HELD_OUT_STEPS
        of = {
            f"draft token {ahead + 1}": Skill(_at(own, ahead), _at(other, ahead), weight)
            for ahead in range(self.exits)
        }
        return Skills(MEASURE, FREQUENT, of)


def _at(scores: Mapping[str, float], ahead: int) -> float:
    return scores.get(f"acceptance_{ahead}", scores.get("acceptance", float("nan")))


class Constant(nnx.Module):
    """Foresees every draft alike.

    Attributes:
      logit: f32[], of its being accepted.
    """

    def __init__(self, logit: float) -> None:
        self.logit = nnx.Param(jnp.float32(logit))

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... 2"]:
        """As `models.heads.acceptance.AcceptanceHead`."""
        yes = jnp.broadcast_to(self.logit[...], hidden.shape[:-1])
        return jnp.stack([jnp.zeros_like(yes), yes], axis=-1)


@dataclass(frozen=True)
class Foreseen:
    """The weighted loss of a head that foresees acceptance, beside the best constant.

    Attributes:
      score: the loss and metrics of `jaxdecode.train.foresight.acceptance`.
      rejection: its w.
    """

    score: Score
    rejection: float

    def __call__(self, model: Any) -> Skills:
        own = self.score(model)
        share = own["label"]
        total = share + self.rejection * (1 - share)
        best = share / total  # see the loss's own words
        blind = self.score(Constant(float(np.log(best / (1 - best)))))
        asked = round(own["weight"] / total) * HELD_OUT_STEPS
        skill = Skill(own["loss"], blind["loss"], asked)
        measure = f"nats a draft token, rejections counted {self.rejection:g} times"
        return Skills(measure, "the best constant", {"draft tokens": skill}, less=True)
