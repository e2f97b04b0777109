"""Whatever drafts and whatever verifies, the text is the target's own.

One program an entry and a sampler serves all checks: numbers, end tokens and weights are leaves.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.selection.best_of_n import BestOfN
from jaxdecode.autoregress import Generator, capacities
from jaxdecode.lm import prefill
from jaxdecode.logits import RepetitionPenalty, Temperature, TopP
from jaxdecode.logits import chain as edits
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.scoring import FunctionScorer
from jaxdecode.testing import naive
from jaxdecode.testing.conformance import CHECKS, Subject, check_eager, end_rules
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, sequence_probs
from jaxdecode.testing.statistics import assert_distribution
from tests.conformance.speculators import SPECULATORS

TARGET = EnumerableLM.random(3, 5)
DRAFTS = {"near": TARGET.perturbed(1, 0.4), "garbage": EnumerableLM.random(8, 5, sharpness=3.0)}
PROMPT = Prompt.of([[1, 2, 3], [4], [2, 2], [0, 1, 4, 1], [3]], [7, 2, 9, 3, 4], 4)
LENGTH = 8  # ends in the middle of drafts
SAMPLES, SHORT = 6000, 3
reading = jax.jit(prefill, static_argnums=2)
EXACT = [name for name, entry in SPECULATORS.items() if entry.exact]


@jax.jit
def run(decoder, key, prompt):
    return decoder(key, prompt)


def greedy(eos=(), sequence=(), penalty=1.0) -> Generator:
    transform = edits(RepetitionPenalty(penalty, TARGET.vocab_size), Temperature(0.7))
    return Generator(TARGET, transform, Greedy(), end_rules(TARGET, eos, sequence), LENGTH)


def sampling(top_p=1.0, eos=()) -> Generator:
    transform = edits(Temperature(1.0), TopP(top_p))
    return Generator(TARGET, transform, Categorical(), end_rules(TARGET, eos), SHORT)


@cache
def plain(eos=(), sequence=(), penalty=1.0):
    return jax.device_get(
        run(Autoregressive(greedy(eos, sequence, penalty)), jax.random.key(0), PROMPT)
    )


@jax.jit
def paused(speculator, until):
    """Rows that ran until their texts have so many tokens."""
    capacity = capacities(speculator, PROMPT.tokens.shape[1])[-1]
    rows = speculator.start(jax.random.key(0), PROMPT, 1, capacity)
    return speculator.advance(rows, until)


@jax.jit
def finished(decoder, rows):
    return decoder.finish(rows)


@pytest.mark.parametrize("name", EXACT)
def test_greedy_text_is_that_of_plain_decoding(name) -> None:
    """Ragged rows, useless drafts, ends inside a path, a budget that ends inside one."""
    whole = jnp.full((PROMPT.batch,), PROMPT.tokens.shape[1] + LENGTH)
    for draft in DRAFTS.values():
        for eos, sequence, penalty in (((), (), 1.0), ((1,), (), 1.0), ((), (4, 4), 1.6)):
            speculator = SPECULATORS[name].make(greedy(eos, sequence, penalty), draft)
            rows = paused(speculator, whole)
            found = jax.device_get(finished(Autoregressive(speculator), rows))
            expected = plain(eos, sequence, penalty)
            for field in ("tokens", "length", "status"):
                np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
            np.testing.assert_allclose(found.logprob, expected.logprob, 1e-5, 1e-5)


def test_the_text_of_plain_decoding_is_the_reference() -> None:
    """The baseline of these tests is itself held to the naive loop."""
    found = plain((1,))
    for row, length in enumerate(np.asarray(PROMPT.length)):
        prompt = np.asarray(PROMPT.tokens)[row, :length].tolist()
        expected = naive.greedy(partial(next_logits, TARGET), prompt, LENGTH, eos=(1,))
        assert found.tokens[row, : found.length[row]].tolist() == expected


def nucleus(p: float, logits: np.ndarray, *_) -> np.ndarray:
    return naive.top_p(logits, p)


@pytest.mark.parametrize("name", EXACT)
def test_samples_follow_the_targets_law(name) -> None:
    """At temperature 1, in a nucleus, and where rows end early."""
    entry = SPECULATORS[name]
    prompt = Prompt.of([[1, 2]] * SAMPLES, list(range(SAMPLES)), 2)
    family = 3 * len(EXACT)
    for top_p, eos, draft in ((1.0, (), "near"), (0.8, (), "garbage"), (1.0, (2,), "near")):
        generator = sampling(top_p, eos)
        decoder = Autoregressive(entry.make(generator, DRAFTS[draft]))
        found = jax.device_get(run(decoder, jax.random.key(5), prompt))
        if entry.coupled:
            expected = run(Autoregressive(generator), jax.random.key(5), prompt)
            np.testing.assert_array_equal(found.tokens, expected.tokens)
        law = sequence_probs(TARGET, [1, 2], SHORT, partial(nucleus, top_p), eos)
        texts = [
            tuple(map(int, row[:length]))
            for row, length in zip(found.tokens, found.length, strict=True)
        ]
        assert_distribution(texts, law, family=family)


@pytest.mark.parametrize("name", SPECULATORS)
def test_the_cache_is_that_of_a_fresh_prefill(name) -> None:
    """After rounds of accepting, rejecting and pausing."""
    speculator = SPECULATORS[name].make(greedy(), DRAFTS["near"])
    for until in (5, 9):
        rows = paused(speculator, jnp.full((PROMPT.batch,), until))
        assert (np.asarray(rows.total) == np.maximum(until, np.asarray(PROMPT.length))).all()
        np.testing.assert_array_equal(rows.cache.length, rows.total - 1)
        texts = [
            [*np.asarray(PROMPT.tokens)[b, :n].tolist(), *np.asarray(rows.tokens)[b, :m].tolist()]
            for b, (n, m) in enumerate(zip(PROMPT.length, rows.length, strict=True))
        ]
        capacity = PROMPT.tokens.shape[1] + LENGTH
        fresh = reading(TARGET, Prompt.of(texts, width=capacity), capacity).cache
        for b, length in enumerate(np.asarray(fresh.length)):
            for mine, other in (
                (rows.cache.k[:, b, :, :, :length], fresh.k[:, b, :, :, :length]),
                (rows.cache.v[:, b, :, :length], fresh.v[:, b, :, :length]),
                (rows.cache.position[b, :length], fresh.position[b, :length]),
            ):
                np.testing.assert_allclose(mine, other, 1e-6)


@pytest.mark.parametrize("name", SPECULATORS)
def test_conformance(name) -> None:
    """What every decoder must keep.

    Operation by operation they are run where they are decoders of their own: nothing of that is a
    drafter's, and it takes as long as all the other checks.
    """

    def make(model: EnumerableLM, stop, max_tokens: int) -> Autoregressive:
        generator = Generator(
            model, edits(Temperature(0.9), TopP(0.95)), Categorical(), stop, max_tokens
        )
        return Autoregressive(SPECULATORS[name].make(generator, model.perturbed(1, 0.4)))

    subject = Subject(make=make)
    for check in CHECKS:
        if check is not check_eager:
            check(subject)


def test_best_of_n_speculates() -> None:
    """Selection over a speculating generator selects what it selects over a plain one."""
    scorer = FunctionScorer(lambda prompt, prompt_length, tokens, length: jnp.sum(tokens % 3, 1))
    generator = replace(sampling(), max_tokens=5)
    speculator = SPECULATORS["greedy drafts"].make(generator, DRAFTS["near"])
    key = jax.random.key(2)
    expected = run(BestOfN(generator, scorer, samples=3), key, PROMPT)
    found = run(BestOfN(speculator, scorer, samples=3), key, PROMPT)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.trace.score, expected.trace.score)
    assert found.usage.accepted.sum() > 0
    assert found.usage.target_passes.sum() < expected.usage.target_passes.sum()
    assert (found.status == Status.LENGTH).all()
