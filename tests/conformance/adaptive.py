"""Drafts whose depth adapts: entries of `speculators`."""

from __future__ import annotations

import jax.numpy as jnp

from algorithms.speculative.drafters.chain import Chain
from algorithms.speculative.pearl import pearl
from algorithms.speculative.policies.confidence import Confidence
from algorithms.speculative.policies.cost_aware import CostAware
from algorithms.speculative.s2d import s2d
from algorithms.speculative.specdec_pp import specdec_pp
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.types import Array, Float


@struct.dataclass
class AnyHead:
    """Probabilities that hang on the hidden state, and on nothing that makes sense."""

    def __call__(self, hidden: Float[Array, "B D"]) -> Float[Array, "B"]:
        return jnp.abs(jnp.sin(9 * jnp.sum(hidden, axis=1)))


def foreseen(generator: Generator, draft: EnumerableLM) -> Speculator:
    """SpecDec++ with an arbitrary head."""
    return specdec_pp(generator, draft, AnyHead(), threshold=0.6, least=1, most=4)


def resting(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Depths by cost, where speculation hardly pays: rows rest and probe."""
    drafter = Chain(draft, 3, generator.transform, generator.sampler, Confidence(0.4), 4)
    costs = CostAware((1.0, 1.2, 1.4, 1.6), 0.3, acceptance=0.5, longest=4)
    return Speculator(generator, drafter, Residual(), costs)


def parallel(generator: Generator, draft: EnumerableLM) -> Speculator:
    """PEARL."""
    return pearl(generator, draft, window=3)


def nested(generator: Generator, draft: EnumerableLM) -> Speculator:
    """S2D, of the draft model's embeddings alone and of all of it."""
    return s2d(generator, draft, exits=(0, 1), thresholds=(0.5, 0.0), length=4)
