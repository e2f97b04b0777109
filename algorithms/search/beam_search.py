"""Beam search: the `beams` likeliest continuations, found breadth first.

A hypothesis that ends leaves the beam for a pool of finished ones, ordered by its log-probability
over lp(length) (Wu et al. 2016, arXiv:1609.08144, or a power of the length). Edits of the
logits apply to log-probabilities and are not normalised again: of what a constraint permits
the likeliest is sought, n-grams that may not repeat included.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxdecode import beam, struct
from jaxdecode.autoregress import Generator
from jaxdecode.extension import Beam, Front, Likeliest, Ranker, Stopping
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits.transform import check_number
from jaxdecode.meter import NoMeter
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import check_start
from jaxdecode.sampling import Greedy, Sampler
from jaxdecode.types import Array, Bool, Float, Key

STOPPINGS = ("exact", "first", "heuristic", "never")


def check_generator(generator: Generator, sampler: type[Sampler] = Greedy) -> None:
    """Refuse rules of drawing that a search would ignore."""
    if not isinstance(generator, Generator):
        return  # a stand-in of a tree transformation
    if not isinstance(generator.sampler, sampler):
        raise ValueError(
            f"generator.sampler={type(generator.sampler).__name__}: this search needs "
            f"{sampler.__name__}() and reads nothing else of it"
        )
    if not isinstance(generator.meter, NoMeter):
        raise ValueError(
            f"generator.meter={type(generator.meter).__name__}: hypotheses are not metered; "
            "leave it out, and score what is returned"
        )


def check_beams(beams: int, groups: int = 1) -> None:
    """Refuse numbers of hypotheses that cannot be."""
    if beams < 1:
        raise ValueError(f"beams={beams}: at least one hypothesis is needed")
    if groups < 1 or beams % groups:
        raise ValueError(
            f"groups={groups} must divide beams={beams}; choose a divisor, or "
            f"{max(groups, 1) * -(-beams // max(groups, 1))} beams"
        )


@struct.dataclass
class SiblingRank:
    """Log-probability less `rate` times the rank, 1, 2, ..., of an extension among those of its
    hypothesis: beams that keep several parents (Li & Jurafsky 2016, arXiv:1601.00372)."""

    rate: Float[Array, ""] | float

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0.0)

    def falling(self, rising: bool | Bool[Array, ""]) -> bool | Bool[Array, ""]:
        return jnp.logical_not(rising)

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        order = jnp.argsort(-front.logp, axis=2, stable=True)
        rank = jnp.argsort(order, axis=2) + 1
        return front.score[..., None] + front.logp - self.rate * rank


@struct.dataclass
class BeamSearch:
    """Returns the best finished hypothesis; the trace is the list of all (`Listed`).

    Attributes:
      generator: model, edits, end rules and room, with the sampler `Greedy()`.
      beams: static.
      penalty: how hypotheses of different length compare; none by default.
      stopping: static, when a prompt is done, see `jaxdecode.beam.Beam`.
      spare: static; False lets a hypothesis that ends take the place of one that goes on.
      leading: static; True lets only one of the `beams` best extensions end, as in
        transformers.
      ranker: what extensions are ordered by.
    """

    generator: Generator
    beams: int = struct.field(pytree_node=False)
    penalty: LengthPenalty = LengthPenalty()
    stopping: Stopping = struct.field(pytree_node=False, default="exact")
    spare: bool = struct.field(pytree_node=False, default=True)
    leading: bool = struct.field(pytree_node=False, default=False)
    ranker: Ranker = Likeliest()

    def __post_init__(self) -> None:
        check_generator(self.generator)
        check_beams(self.beams)
        if self.stopping not in STOPPINGS:
            raise ValueError(f"stopping={self.stopping!r}: choose one of {', '.join(STOPPINGS)}")

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rules = Beam(
            self.generator,
            self.ranker,
            self.penalty,
            self.beams,
            stopping=self.stopping,
            spare=self.spare,
            leading=self.leading,
        )
        found = beam.search(rules, key, prompt)
        return beam.finish(rules, found, found.finished.rank)
