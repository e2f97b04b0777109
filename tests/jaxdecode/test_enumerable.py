"""The enumerable model is its NumPy double, however it is run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.lm import View
from jaxdecode.logits import NoRepeatNgram, RepetitionPenalty, Temperature, TopK, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing import naive
from jaxdecode.testing.enumerable import (
    EnumerableLM,
    next_logits,
    next_probs,
    sequence_logprob,
    sequence_probs,
    visible_logits,
)
from jaxdecode.testing.statistics import assert_distribution, completions, power, rejects

MODEL = EnumerableLM.random(0, vocab=5, width=6, max_positions=8, sharpness=1.5)
B, T, S = 2, 4, 10


@jax.jit
def call(model, tokens, cache, view):
    return model(tokens, cache, view)


@given(seed=st.integers(0, 10**6))
def test_a_call_sees_exactly_what_the_view_says(seed) -> None:
    """Any prefix, block, validity, position and set of further slots; garbage slots hold NaN."""
    rng = np.random.default_rng(seed)
    prefix = rng.integers(0, 4, B)
    start = prefix + rng.integers(0, 3, B)
    slots = [[(int(rng.integers(20)), int(rng.integers(5))) for _ in range(S)] for _ in range(B)]
    block = rng.random((B, T, T)) < 0.5
    beyond = (rng.random((B, T, S)) < 0.3) & (np.arange(S) < start[:, None, None])
    view = View(
        position=jnp.asarray(rng.integers(0, 12, (B, T))),
        start=jnp.asarray(start),
        prefix=jnp.asarray(prefix),
        valid=jnp.asarray(rng.random((B, T)) < 0.8),
        block=jnp.asarray(block),
        beyond=jnp.asarray(beyond),
    )
    tokens = rng.integers(0, 5, (B, T))
    held = np.array(slots)
    at = held[..., 0] % MODEL.keys.shape[0], held[..., 1]
    known = (np.arange(S) < start[:, None])[..., None]
    keys = np.where(known, np.asarray(MODEL.keys)[at], np.nan)
    values = np.where(known, np.asarray(MODEL.values)[at], np.nan)
    cache = dataclasses.replace(
        MODEL.init_cache(B, S),
        k=jnp.asarray(keys.swapaxes(1, 2)[None, :, None], jnp.float32),
        v=jnp.asarray(values[None, :, None], jnp.float32),
    )
    output = call(MODEL, jnp.asarray(tokens), cache, view)
    for row in range(B):
        for query in range(T):
            further = np.flatnonzero(beyond[row, query])
            seen = [slots[row][s] for s in {*range(prefix[row]), *further}]
            seen += [
                (int(view.position[row, t]), int(tokens[row, t]))
                for t in range(T)
                if block[row, query, t] and view.valid[row, t]
            ]
            expected = visible_logits(MODEL, seen)
            np.testing.assert_allclose(output.logits[row, query], expected, 1e-4, 1e-4)


def test_logits_depend_on_every_pair() -> None:
    """Another token, another place or one pair fewer is another law."""
    base = next_logits(MODEL, [1, 2, 3])
    for other in ([1, 2, 4], [2, 1, 3], [1, 2], [1, 2, 3, 3]):
        assert np.abs(next_logits(MODEL, other) - base).max() > 1e-2


def test_embedding_and_unembedding() -> None:
    tokens = jnp.array([[3]])
    hidden = jnp.tanh(MODEL.embed(tokens, jnp.array([[2]])))
    expected = visible_logits(MODEL, [(2, 3)])
    np.testing.assert_allclose(MODEL.unembed(hidden)[0, 0], expected, 1e-5, 1e-5)


def test_sharpness_and_nearness() -> None:
    flat = EnumerableLM.random(0, 5, sharpness=0.0)
    np.testing.assert_allclose(next_probs(flat, [1, 2]), 0.2, 1e-6)
    near, far = (next_probs(MODEL.perturbed(1, amount), [1, 2]) for amount in (0.01, 2.0))
    gaps = [np.abs(p - next_probs(MODEL, [1, 2])).sum() for p in (near, far)]
    assert 0 < gaps[0] < 0.1 < gaps[1]


def test_completions_and_their_probabilities() -> None:
    law = sequence_probs(MODEL, [1, 2], 3, eos=[0])
    assert sum(law.values()) == pytest.approx(1)
    assert len(law) == 1 + 4 + 4 * 4 * 5
    assert law[(0,)] == pytest.approx(next_probs(MODEL, [1, 2])[0])
    assert law[(3, 1, 4)] == pytest.approx(np.exp(sequence_logprob(MODEL, [1, 2], [3, 1, 4])))
    cut = sequence_probs(MODEL, [1, 2], 2, lambda logits, p, o: naive.top_k(logits, 2))
    assert sum(p > 0 for p in cut.values()) == 4


def decoder(sampler, transform, eos, length) -> Autoregressive:
    return Autoregressive(Generator(MODEL, transform, sampler, Stop.of(eos), length))


def test_greedy_decoding_equals_the_naive_loop() -> None:
    prompts = [[1, 2, 3], [4], [0, 0]]
    transform = chain(RepetitionPenalty(1.3, 5), NoRepeatNgram(2, 6))
    result = decode(decoder(Greedy(), transform, [0], 6), 0, Prompt.of(prompts))

    def edit(logits, prompt, output):
        logits = naive.repetition_penalty(logits, [*prompt, *output], 1.3)
        return naive.no_repeat_ngram(logits, [*prompt, *output], 2)

    expected = [
        naive.greedy(lambda tokens: next_logits(MODEL, tokens), prompt, 6, edit, [0])
        for prompt in prompts
    ]
    assert completions(result.tokens, result.length) == list(map(tuple, expected))


def test_sampling_follows_the_enumerated_law() -> None:
    """Every completion of at most three tokens, with a transform and an end token."""
    count = 20_000
    prompt = Prompt(
        tokens=jnp.full((count, 1), 2), length=jnp.ones(count, int), id=jnp.arange(count)
    )
    transform = chain(Temperature(0.8), TopK(3))
    result = decode(decoder(Categorical(), transform, [0], 3), 1, prompt)
    samples = completions(result.tokens, result.length)

    def edit(logits, prompt, output):
        return naive.top_k(logits / 0.8, 3)

    law = sequence_probs(MODEL, [2], 3, edit, eos=[0])
    assert_distribution(samples, law)
    # The order of the two edits is of no account here, but the temperature is.
    wrong = sequence_probs(MODEL, [2], 3, lambda x, p, o: naive.top_k(x / 0.9, 3), eos=[0])
    assert power(count, wrong, law) > 0.99
    assert rejects(samples, wrong)
