"""Selection by certainty and by votes, end to end on an enumerable model."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.self_certainty import (
    PAPER,
    MeterScorer,
    SelfCertainty,
    Voting,
    on_host,
)
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import MEASURES, CertaintyMeter, score_certainty
from jaxdecode.decoder import decode
from jaxdecode.logits import Temperature
from jaxdecode.paper import citation
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import LikelihoodScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.voting import best_of, borda, majority

EOS = 2
SAMPLES = 6
MODEL = EnumerableLM.random(5, 7, sharpness=2.0)
GENERATOR = Generator(MODEL, Temperature(0.9), Categorical(), Stop.of(EOS), 6)
PROMPT = Prompt.of([[1, 3, 4], [5], [2, 2, 6, 1]], [4, 9, 1], 4)


def last_token(tokens, length):
    """The last token of the text, modulo 3; no answer without text or where it is the 6."""
    row = jnp.arange(tokens.shape[0])
    text = length - (tokens[row, length - 1] == EOS)
    token = tokens[row, jnp.maximum(text - 1, 0)]
    return jnp.where((text > 0) & (token != 6), token % 3, -1)


def no_answer(tokens, length):
    return jnp.full_like(length, -1)


def at(array, index):
    return np.asarray(array)[np.arange(len(index)), np.asarray(index)]


@pytest.mark.parametrize("measure", ["kl", "neg_distributional_perplexity", "neg_perplexity"])
def test_the_most_certain_response_is_returned(measure) -> None:
    result = decode(SelfCertainty(GENERATOR, SAMPLES, measure), 1, PROMPT)
    pool = result.trace
    meter = CertaintyMeter(jnp.array([EOS]))
    tokens, length = pool.tokens.reshape(-1, 6), pool.length.reshape(-1)
    again = score_certainty(MODEL, PROMPT, tokens, length, meter)
    scores = np.asarray(getattr(again, measure)).reshape(3, SAMPLES)
    text = np.asarray(again.length).reshape(3, SAMPLES) > 0
    np.testing.assert_allclose(pool.score[text], scores[text], rtol=1e-4)
    best = np.argmax(np.where(text, scores, -np.inf), axis=1)
    np.testing.assert_array_equal(pool.best, best)
    np.testing.assert_array_equal(result.tokens, at(pool.tokens, best))
    np.testing.assert_array_equal(result.usage.scorer_passes, 0)
    np.testing.assert_array_equal(result.usage.emitted, pool.length.sum(1))


def test_all_measures_are_kept_and_waves_change_nothing() -> None:
    whole = decode(SelfCertainty(GENERATOR, SAMPLES), 1, PROMPT)
    waves = decode(SelfCertainty(GENERATOR, SAMPLES, wave=2), 1, PROMPT)
    np.testing.assert_array_equal(whole.tokens, waves.tokens)
    one, two = whole.trace.meter.mean(), waves.trace.meter.mean()
    for name in MEASURES:
        assert getattr(one, name).shape == (3, SAMPLES)
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-5, err_msg=name)


def test_a_response_of_nothing_but_its_end_ranks_last() -> None:
    """It is a sound response, so that it is returned where there is no other."""
    decoder = SelfCertainty(GENERATOR, SAMPLES)
    pool = decode(decoder, 1, PROMPT).trace
    empty = np.asarray(pool.length) == 1
    empty &= np.asarray(pool.tokens[..., 0]) == EOS
    assert empty.any() and not empty.all(1).any()
    assert (pool.score[empty] < pool.score[~empty].min()).all()
    everything = Stop.of(list(range(MODEL.vocab_size)))
    at_once = decode(replace(decoder, generator=replace(GENERATOR, stop=everything)), 1, PROMPT)
    np.testing.assert_array_equal(at_once.status, Status.EOS)
    np.testing.assert_array_equal(at_once.length, 1)


@pytest.mark.parametrize("rule", [Partial(majority), Partial(borda, power=1.2), Partial(best_of)])
def test_the_first_response_with_the_elected_answer_is_returned(rule) -> None:
    result = decode(Voting(SelfCertainty(GENERATOR, SAMPLES), last_token, rule), 1, PROMPT)
    pool, answers = result.trace.pool, np.asarray(result.trace.answers)
    assert (answers >= 0).any(1).all() and (answers < 0).any()
    for row in range(3):
        chosen = int(rule(jnp.asarray(answers[row]), pool.score[row]))
        assert result.trace.chosen[row] == chosen
        np.testing.assert_array_equal(result.tokens[row], pool.tokens[row, chosen])
        assert result.length[row] == pool.length[row, chosen]
        assert result.status[row] == pool.status[row, chosen]
        np.testing.assert_allclose(result.logprob[row], pool.logprob[row, chosen])


def test_the_scores_of_any_best_of_n_may_vote() -> None:
    plain = BestOfN(GENERATOR, LikelihoodScorer(), SAMPLES)
    result = decode(Voting(plain, last_token, Partial(best_of)), 1, PROMPT)
    able = np.asarray(result.trace.answers) >= 0
    expected = np.argmax(np.where(able, result.trace.pool.score, -np.inf), axis=1)
    np.testing.assert_array_equal(result.trace.chosen, expected)


def test_no_answer_at_all() -> None:
    result = decode(Voting(SelfCertainty(GENERATOR, SAMPLES), no_answer), 1, PROMPT)
    np.testing.assert_array_equal(result.status, Status.INVALID)
    np.testing.assert_array_equal(result.trace.chosen, 0)
    np.testing.assert_array_equal(result.tokens, result.trace.pool.tokens[:, 0])


def test_a_model_with_an_infinite_logit_selects_nothing() -> None:
    """One token of probability zero would otherwise have infinite self-certainty."""
    broken = replace(MODEL, bias=MODEL.bias.at[6].set(-jnp.inf))
    decoder = SelfCertainty(replace(GENERATOR, model=broken), SAMPLES)
    result = decode(decoder, 1, PROMPT)
    text = np.asarray(result.trace.meter.mean().length) > 0
    np.testing.assert_array_equal(np.isneginf(result.trace.score), text)
    np.testing.assert_array_equal(result.usage.invalid, text.sum(1))
    voted = decode(Voting(decoder, lambda tokens, length: tokens[:, 0]), 1, PROMPT)
    able = np.asarray(voted.trace.pool.score) > -np.inf
    np.testing.assert_array_equal(voted.status == Status.INVALID, ~able.any(1))
    assert (voted.status == Status.INVALID).any()


def test_answers_from_a_python_function() -> None:
    """Ids are numbered within a call, and what is equal shares one."""
    calls = []

    def extract(tokens: list[int]) -> str | None:
        calls.append(tokens)
        text = [token for token in tokens if token != EOS]
        return f"{text[-1] % 3}" if text and text[-1] != 6 else None

    candidates = SelfCertainty(GENERATOR, SAMPLES)
    rule = Partial(borda, power=0.5)
    host = decode(Voting(candidates, on_host(extract), rule), 1, PROMPT)
    device = decode(Voting(candidates, last_token, rule), 1, PROMPT)
    assert len(calls) == 3 * SAMPLES
    np.testing.assert_array_equal(host.tokens, device.tokens)
    np.testing.assert_array_equal(host.status, device.status)
    one, two = (np.asarray(r.trace.answers).reshape(-1) for r in (host, device))
    np.testing.assert_array_equal(one[:, None] == one, two[:, None] == two)
    np.testing.assert_array_equal(one < 0, two < 0)


def test_refusals() -> None:
    unknown: Any = "entropy"
    with pytest.raises(ValueError, match="measure='entropy'"):
        MeterScorer(unknown)
    with pytest.raises(ValueError, match="measure='entropy'"):
        SelfCertainty(GENERATOR, 4, unknown)
    with pytest.raises(ValueError, match="samples=0"):
        SelfCertainty(GENERATOR, 0)
    with pytest.raises(ValueError, match="wave=3"):
        SelfCertainty(GENERATOR, 4, wave=3)
    with pytest.raises(ValueError, match="vocabulary"):
        decode(Voting(SelfCertainty(GENERATOR, 2), no_answer), 0, Prompt.of([[9]]))


def test_citation() -> None:
    assert PAPER.bibtex() == citation(Voting(SelfCertainty(GENERATOR, 2), no_answer))
    assert PAPER.bibtex() == citation(BestOfN(GENERATOR, MeterScorer(), 2))
