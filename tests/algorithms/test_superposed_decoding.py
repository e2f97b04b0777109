"""Superposed decoding against a plain reference, worked steps and greedy search."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.superposed_decoding import SuperposedDecoding
from jaxdecode.autoregress import Generator
from jaxdecode.beam_state import start
from jaxdecode.decoder import decode
from jaxdecode.extension import Beam, Likeliest
from jaxdecode.finished import LengthPenalty
from jaxdecode.logits import Identity, Temperature
from jaxdecode.ngram.interpolation import Interpolation
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, sequence_logprob
from tests.markov import MarkovLM
from tests.references import superposed as naive

EOS, LENGTH = 0, 5
MODEL = EnumerableLM.random(3, 6)
PROMPTS = ([1, 2, 3], [4], [2, 2])
RAGGED = Prompt.of(PROMPTS, width=4)
FREE = Generator(MODEL, Identity(), Greedy(), Stop.of(EOS), LENGTH)
DOCUMENTS = [
    [*np.random.default_rng(seed).integers(0, 6, 30).tolist(), seed % 6] for seed in range(4)
]
WEIGHTS = (0.2, 0.3, 0.25)
NGRAMS = Interpolation.of(DOCUMENTS, 6, WEIGHTS, 6)


def run(decoder: SuperposedDecoding, prompt: Prompt = RAGGED) -> Result:
    return jax.device_get(decode(decoder, 0, prompt))


def test_shares_equal_counting_and_never_cross_a_border() -> None:
    share = naive.interpolated(DOCUMENTS, WEIGHTS)
    texts = [[1, 2, 3], [4], DOCUMENTS[0][4:7], [DOCUMENTS[0][-1], DOCUMENTS[1][0]], [5, 5, 5]]
    padded = jnp.asarray([[-1] * (3 - len(text)) + text for text in texts])
    found = np.asarray(NGRAMS.shares(padded, jnp.arange(6)[None]))
    expected = [[share(text, token) for token in range(6)] for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found.sum(1) <= sum(WEIGHTS) + 1e-6).all()
    np.testing.assert_allclose(found[2].sum(), sum(WEIGHTS), atol=1e-6)  # all contexts seen


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_it_does_what_the_reference_does(temperature) -> None:
    decoder = SuperposedDecoding(FREE, 3, 4, 0.54, temperature, NGRAMS)
    found = run(decoder)
    share = naive.interpolated(DOCUMENTS, WEIGHTS)
    for row, prompt in enumerate(PROMPTS):
        expected = naive.decode(
            MODEL,
            prompt,
            LENGTH,
            [EOS],
            drafts=3,
            kept=4,
            alpha=0.54,
            temperature=temperature,
            share=share,
        )
        for k, (tokens, score) in enumerate(expected):
            length = found.trace.length[row, k]
            assert tuple(found.trace.tokens[row, k, :length].tolist()) == tokens
            np.testing.assert_allclose(found.trace.score[row, k], score, rtol=1e-4)
            true = sequence_logprob(MODEL, prompt, tokens)
            np.testing.assert_allclose(found.trace.logprob[row, k], true, atol=1e-4)
    read = np.array([len(prompt) > 1 for prompt in PROMPTS])
    assert (found.usage.target_passes <= LENGTH + read + 1).all()  # one a step, one to judge


def test_finished_drafts_are_kept_by_score_and_listed_by_score_per_token() -> None:
    """Three tokens that end a draft, so that more end than are kept."""
    ends, longest = [0, 1, 2], 6
    generator = replace(FREE, stop=Stop.of(ends), max_tokens=longest)
    found = run(SuperposedDecoding(generator, 2, 6, temperature=2.0, rescored=False))
    other = 0
    for row, prompt in enumerate(PROMPTS):
        rules = {"drafts": 2, "kept": 6, "alpha": 0.54, "temperature": 2.0, "share": None}
        expected = naive.decode(MODEL, prompt, longest, ends, **rules)
        lengths = found.trace.length[row]
        listed = [
            tuple(found.trace.tokens[row, k, : lengths[k]].tolist()) for k in range(len(expected))
        ]
        assert listed == [tokens for tokens, _ in expected]
        np.testing.assert_allclose(found.trace.score[row], [s for _, s in expected], rtol=1e-4)
        other += (
            naive.decode(MODEL, prompt, longest, ends, **rules, kept_by_length=True) != expected
        )
    assert other, "the example tells the two rules apart"


def test_one_draft_without_ngrams_is_greedy_search() -> None:
    endless = replace(FREE, stop=Stop.of(6))
    found = run(SuperposedDecoding(endless, 1, 3, temperature=0.3, rescored=False))
    for row, prompt in enumerate(PROMPTS):
        output: list[int] = []
        while len(output) < LENGTH:
            output.append(int(np.argmax(next_logits(MODEL, [*prompt, *output]))))
        assert found.tokens[row].tolist() == output
        logprob = sequence_logprob(MODEL, prompt, output)  # a lone draft's passes see real text
        np.testing.assert_allclose(found.logprob[row], logprob, atol=1e-4)
    read = np.array([len(prompt) > 1 for prompt in PROMPTS])
    assert found.usage.target_passes.tolist() == (LENGTH + read).tolist()


def test_a_draft_drawn_every_step_leaves_a_cache_of_its_own_tokens() -> None:
    """All passes then see real text, and need no judging afterwards."""
    seen = run(SuperposedDecoding(FREE, 3, 4, temperature=1.0, reset=1, rescored=False))
    for row, prompt in enumerate(PROMPTS):
        for k in range(3):
            tokens = seen.trace.tokens[row, k, : seen.trace.length[row, k]].tolist()
            true = sequence_logprob(MODEL, prompt, tokens)
            np.testing.assert_allclose(seen.trace.logprob[row, k], true, atol=1e-4)


P = np.array([0.40, 0.25, 0.15, 0.10, 0.07, 0.03])
FIRST, SECOND = 6, 7  # newest tokens of the two drafts
FOLLOWERS = {FIRST: {0: 1, 1: 9, 5: 10}, SECOND: {0: 6, 2: 2, 5: 12}}


def fused(followers: dict[int, dict[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """log p_f of a step with drafts of probabilities (.6, .4), and the totals."""
    documents = [
        [context, token]
        for context, law in followers.items()
        for token, n in law.items()
        for _ in range(n)
    ]
    ngrams = Interpolation.of(documents, 8, (0.1,), 8)
    model = MarkovLM(jnp.zeros((8, 8)))
    decoder = SuperposedDecoding(
        Generator(model, Identity(), Greedy(), Stop.of(()), 2), 2, 4, 0.5, 1.0, ngrams
    )
    prompt = Prompt.of([[0]], width=1)
    rules = Beam(decoder.generator, Likeliest(), LengthPenalty(), 2)
    search = replace(
        start(rules, jax.random.key(0), prompt, 1),
        step=jnp.asarray(1),
        tokens=jnp.asarray([[[[FIRST, 0], [SECOND, 0]]]]),
    )
    logp = np.log(P[:4] / P[:4].sum())
    found = decoder.fused(prompt, search, jnp.asarray([logp]), jnp.arange(4)[None])[0]
    return np.asarray(found), np.log([[0.6], [0.4]]) + np.asarray(found)


def test_a_worked_step() -> None:
    found, total = fused(FOLLOWERS)
    none = -np.inf
    expected = [[-3.054624, -2.191013, none, none], [-2.158744, none, -3.198465, none]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    ranked = sorted(total[np.isfinite(total)], reverse=True)
    np.testing.assert_allclose(ranked, [-2.701839, -3.075035, -3.565449, -4.114756], atol=1e-5)
    weight = SuperposedDecoding.weights(
        SuperposedDecoding(FREE, 2, 4), jnp.asarray([ranked[:2]], jnp.float32)
    )
    np.testing.assert_allclose(weight[0], [0.592231, 0.407769], atol=1e-5)


def test_a_draft_that_no_ngram_knows_a_token_for_is_penalised_whole() -> None:
    found, total = fused({FIRST: FOLLOWERS[FIRST], SECOND: {5: 12}})
    lost = [-200.405465, -200.640467, -200.895880, -201.098612]
    np.testing.assert_allclose(found[1], lost, atol=1e-4)
    order = np.argsort(-total.ravel())[:2]
    assert order.tolist() == [1, 0]  # both from the first draft
    np.testing.assert_allclose(found[0, :2], [-3.054624, -2.191013], atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="drafts=0"):
        SuperposedDecoding(FREE, 0)
    with pytest.raises(ValueError, match="kept=2"):
        SuperposedDecoding(FREE, 3, 2)
    with pytest.raises(ValueError, match="alpha="):
        SuperposedDecoding(FREE, 2, alpha=1.5)
    with pytest.raises(ValueError, match="reset=0"):
        SuperposedDecoding(FREE, 2, reset=0)
    vocab, most = FREE.model.vocab_size, FREE.max_tokens
    SuperposedDecoding(FREE, 2, kept=vocab, reset=most)
    with pytest.raises(ValueError, match=f"kept={vocab + 1} exceeds the vocabulary of {vocab}"):
        SuperposedDecoding(FREE, 2, kept=vocab + 1)
    with pytest.raises(ValueError, match=f"reset={most + 1}: a text ends after {most} tokens"):
        SuperposedDecoding(FREE, 2, kept=vocab, reset=most + 1)
    with pytest.raises(ValueError, match="share one distribution"):
        SuperposedDecoding(replace(FREE, transform=Temperature(0.5)))
    with pytest.raises(ValueError, match="weights="):
        Interpolation.of(DOCUMENTS, 6, (), 6)
