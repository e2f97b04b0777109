"""Speculators whose draft model grows a tree."""

from __future__ import annotations

from algorithms.speculative.dyspec import dyspec, dyspec_threshold
from algorithms.speculative.rsd import rsd_c, rsd_s
from algorithms.speculative.sequoia import sequoia
from algorithms.speculative.specinfer import specinfer
from algorithms.speculative.spectr import spectr
from jaxdecode.autoregress import Generator
from jaxdecode.logits import RepetitionPenalty, Temperature, chain
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM

DRAFTING = (Temperature(0.8), Categorical())


def sequences(generator: Generator, draft: EnumerableLM) -> Speculator:
    return spectr(generator, draft, 3, 2, *DRAFTING)


def rounds(generator: Generator, draft: EnumerableLM) -> Speculator:
    return specinfer(generator, draft, (2, 2), *DRAFTING)


def branches(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Also with a transform that remembers what was drafted above a node."""
    edits = chain(RepetitionPenalty(1.4, draft.vocab_size), Temperature(0.8))
    return rsd_c(generator, draft, (2, 2), edits, Categorical())


def beam(generator: Generator, draft: EnumerableLM) -> Speculator:
    return rsd_s(generator, draft, 3, 3, *DRAFTING)


def static(generator: Generator, draft: EnumerableLM) -> Speculator:
    """Greedy drafts, so that all children but the first are drawn beyond the law's support."""
    return sequoia(generator, draft, (-1, -1, -1, 0, 0, 1), sampler=generator.sampler)


def greedy(generator: Generator, draft: EnumerableLM) -> Speculator:
    return dyspec(generator, draft, 5)


def threshold(generator: Generator, draft: EnumerableLM) -> Speculator:
    return dyspec_threshold(generator, draft, 7, 0.1)
