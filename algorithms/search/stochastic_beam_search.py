"""Stochastic beam search: k different samples at once (Kool et al. 2019, arXiv:1903.06059).

The beam is ordered by log-probability plus Gumbel noise, the noise of the extensions being
conditioned on the maximum that their hypothesis stands for. What it finds are the k first of
draws without replacement from all sequences: the first is a sample of the model, the next a
sample of what is left, and so on. Hypotheses that end are kept apart and change nothing, as
noise can only fall along a path. The drafter of recursive speculative decoding grows trees by
the same rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.search.beam_search import check_beams, check_generator
from jaxdecode import beam, struct
from jaxdecode.autoregress import Generator
from jaxdecode.extension import Beam, Front
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits import Chain
from jaxdecode.logits.transform import no_state, unchanged
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import check_start
from jaxdecode.sampling import Categorical, conditioned
from jaxdecode.types import Array, Bool, Float, Key


@struct.dataclass
class Normalised:
    """Log-probabilities of what edits have left, so that there is a law to draw from."""

    rises = False
    init = no_state
    observe = unchanged

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return jax.nn.log_softmax(logits, axis=1)


@struct.dataclass
class Perturbed:
    """Log-probability plus noise, at most that of the hypothesis; the root's is drawn free."""

    def falling(self, rising: bool | Bool[Array, ""]) -> bool:
        return True

    def __call__(self, front: Front) -> Float[Array, "B W V"]:
        noise = jax.vmap(lambda key: jax.random.gumbel(key, front.logp.shape[1:]))(front.key)
        noisy = front.total[..., None] + front.logp + noise
        free = jnp.where(front.step == 0, jnp.max(noisy, axis=2), front.score)
        return conditioned(free, noisy)


@struct.dataclass
class StochasticBeamSearch:
    """Returns the first sample; the trace lists all in the order of their draw (`Listed`).

    `Listed.score` is the perturbed log-probability, `Listed.total` the log-probability under
    the law that is drawn from.

    Attributes:
      generator: model, edits, end rules and room, with the sampler `Categorical()`.
      samples: static, k.
    """

    generator: Generator
    samples: int = struct.field(pytree_node=False, range=(1, 2**24))

    def __post_init__(self) -> None:
        check_generator(self.generator, Categorical)
        check_beams(self.samples)

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        law = Chain((self.generator.transform, Normalised()))
        rules = Beam(
            replace(self.generator, transform=law),
            Perturbed(),
            LengthPenalty(),
            self.samples,
        )
        found = beam.search(rules, key, prompt)
        return beam.finish(rules, found, found.finished.rank)
