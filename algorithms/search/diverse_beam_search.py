"""Diverse beam search: groups of beams that keep away from each other (Vijayakumar et al. 2016,
arXiv 1610.02424).

The beams are split into G groups, which choose one after the other in every step. A group's
extensions are ordered by what is carried along,

    Theta_g(y) <- Theta_g(y) + log p(token) - strength * penalty(token, groups before g),

so that group 1 is a beam search of its own and the model still runs once a step for all. Like
the authors' code, a hypothesis that ends leaves its place for a step (`spare` gives it to
another at once), and the end token counts for later groups. The list is ordered by the
model's log-probability, without a length penalty, as published. Terms other than the
authors' Hamming code follow the paper's definitions (`algorithms.search.diversity`).
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from algorithms.search.beam_search import check_beams, check_generator
from algorithms.search.diversity import Diversity, Hamming
from jaxdecode import beam, struct
from jaxdecode.autoregress import Generator
from jaxdecode.extension import Beam, Front
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits.transform import check_number
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import check_start
from jaxdecode.types import Array, Bool, Float, Key

PAPER = Paper(
    slug="diverse_beam_search",
    title="Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models",
    authors=(
        "Ashwin K. Vijayakumar",
        "Michael Cogswell",
        "Ramprasath R. Selvaraju",
        "Qing Sun",
        "Stefan Lee",
        "David Crandall",
        "Dhruv Batra",
    ),
    year=2016,
    arxiv="1610.02424",
    venue="AAAI 2018",
    claim="groups of beams that are penalised for the tokens of earlier groups give lists with "
    "more distinct n-grams and a better best member than beam search, at its cost",
    losslessness="not-applicable",
)

RankBy = Literal["raw", "augmented", "length_normalised"]


@struct.dataclass
class Diverse:
    """Log-probability less `strength`, of all groups or f32[G], times the penalty."""

    diversity: Diversity
    strength: Float[Array, "..."] | float

    def falling(self, rising: bool | Bool[Array, ""]) -> Bool[Array, ""]:
        """Not where a term may be negative: likeness below nothing raises a score."""
        raised = not getattr(self.diversity, "nonnegative", False)
        raised = jnp.logical_or(raised, jnp.any(jnp.asarray(self.strength) < 0))
        return jnp.logical_not(jnp.logical_or(rising, raised))

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        strength = jnp.asarray(self.strength)
        strength = strength[front.group] if strength.ndim else strength
        return front.score[..., None] + front.logp - strength * self.diversity(front)


@struct.dataclass
class DiverseBeamSearch:
    """Returns the hypothesis that ranks first; the trace is the list of all (`Listed`).

    `Listed.score` is the augmented score, `Listed.logprob` the model's own.

    Attributes:
      generator: model, edits, end rules and room, with the sampler `Greedy()`.
      beams, groups: static; the groups divide the beams. The paper reports groups = beams.
      strength: of the penalty, lambda >= 0, one number or one for every group.
      diversity: the term.
      rank_by: static, the order of the list.
      spare: static, see `jaxdecode.beam`.
      end_counts: whether an end token counts for later groups.
    """

    generator: Generator
    beams: int = struct.field(pytree_node=False)
    groups: int = struct.field(pytree_node=False)
    strength: Float[Array, "..."] | float = 0.5
    diversity: Diversity = Hamming()
    rank_by: RankBy = struct.field(pytree_node=False, default="raw")
    spare: bool = struct.field(pytree_node=False, default=False)
    end_counts: bool | Bool[Array, ""] = True

    def __post_init__(self) -> None:
        check_generator(self.generator)
        check_beams(self.beams, self.groups)
        check_number("strength", self.strength, 0.0)
        shape = jnp.shape(self.strength) if isinstance(self.strength, float | Array) else ()
        if shape not in ((), (self.groups,)):
            raise ValueError(
                f"strength of shape {shape}: give one number, or one for each of the "
                f"{self.groups} groups"
            )
        if self.rank_by not in ("raw", "augmented", "length_normalised"):
            raise ValueError(
                f"rank_by={self.rank_by!r}: choose 'raw', 'augmented' or 'length_normalised'"
            )

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rules = Beam(
            self.generator,
            Diverse(self.diversity, self.strength),
            LengthPenalty(),
            self.beams // self.groups,
            self.groups,
            spare=self.spare,
            end_counts=self.end_counts,
        )
        found = beam.search(rules, key, prompt)
        lists = found.finished
        order = {
            "raw": lists.logprob,
            "augmented": lists.score,
            "length_normalised": lists.logprob / jnp.maximum(lists.length, 1),
        }
        return beam.finish(rules, found, order[self.rank_by])
