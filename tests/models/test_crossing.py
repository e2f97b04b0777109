"""Rotations that change with a text's length: the cache, and drafts, against no cache at all.

The uncached answer is `forward` on the whole text at every token, which the parity tests hold
to the published library's logits on both sides of the change (at 8 tokens in this fixture).
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.prompt_lookup import prompt_lookup
from jaxdecode.autoregress import Generator
from jaxdecode.cache import truncate
from jaxdecode.decoder import decode
from jaxdecode.lm import View, extend
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Greedy
from jaxdecode.stop import Stop
from models.checkpoints import load
from models.transformer import Transformer
from tests.models.generate import greedy

FIXTURES = Path(__file__).parent / "fixtures"
CROSSING, NEW = 8, 10
# One row crosses while it is decoded, one in its first token, one is beyond from the start.
ROWS = [[5, 9, 5, 9], [7, 8, 7, 8, 7, 8, 7], [11, 12, 11, 12, 11, 12, 11, 12, 11, 12]]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return load(FIXTURES / "phi3_longrope", dtype="float32")


def generator(model: Transformer, new: int = NEW) -> Generator:
    return Generator(model, Identity(), Greedy(), Stop.of(), new)


@jax.jit
def whole(model: Transformer, tokens, length):
    logits, _ = model.forward(tokens, jnp.arange(tokens.shape[1]) < length[:, None])
    return jnp.take_along_axis(logits, length[:, None, None] - 1, axis=1)[:, 0]


def uncached(model: Transformer, rows: list[list[int]]) -> np.ndarray:
    length = np.asarray([len(row) for row in rows])
    tokens = np.zeros((len(rows), length.max() + NEW), np.int32)
    for at, row in enumerate(rows):
        tokens[at, : len(row)] = row
    out = []
    for _ in range(NEW):
        out.append(np.asarray(whole(model, tokens, length)).argmax(1))
        tokens[np.arange(len(rows)), length] = out[-1]
        length = length + 1
    return np.stack(out, 1)


def test_greedy_with_a_cache_is_greedy_without_across_the_change(model):
    expected = uncached(model, ROWS)
    prompt = Prompt.of(ROWS)
    plain = decode(Autoregressive(generator(model)), 0, prompt)
    np.testing.assert_array_equal(plain.tokens, expected)
    written = decode(Autoregressive(generator(model.unstacked())), 0, prompt)
    np.testing.assert_array_equal(written.tokens, expected)
    drafted = decode(Autoregressive(prompt_lookup(generator(model), 4)), 0, prompt)
    np.testing.assert_array_equal(drafted.tokens, expected)
    assert int(drafted.usage.drafted.sum()) > 0
    # The test sees the change: keys that keep the rotation they were written with will not do.
    short = model.configured(longest=CROSSING)
    assert (greedy(short, prompt, NEW) != expected).any(axis=1)[:2].all()
    assert short.init_cache(1, 4).k.shape[0] * 2 == model.init_cache(1, 4).k.shape[0]


def test_what_a_token_gives_depends_on_what_is_before_it_alone(model):
    tokens = jnp.asarray(np.random.default_rng(0).integers(3, 90, (2, 14)))
    step = jax.jit(extend)
    alone, cache = [], model.init_cache(2, 14)
    for at in range(14):
        output = step(model, tokens[:, at : at + 1], cache)
        cache = truncate(output.cache, jnp.full((2,), at + 1))
        alone.append(output.logits[:, 0])
    cache = truncate(step(model, tokens[:, :5], model.init_cache(2, 14)).cache, jnp.full((2,), 5))
    together = step(model, tokens[:, 5:], cache).logits  # a pass that crosses
    np.testing.assert_allclose(together, jnp.stack(alone[5:], 1), atol=2e-5)
    for length in (5, 8, 9, 14):
        text = whole(model, tokens, jnp.full((2,), length))
        np.testing.assert_allclose(alone[length - 1], text, atol=2e-5)


def test_layers_in_parts_and_rows_too_long_are_refused(model):
    cache = model.init_cache(1, 4)
    zero = jnp.zeros((1,), jnp.int32)
    view = View(jnp.zeros((1, 1), jnp.int32), zero, zero, jnp.ones((1, 1), bool))
    with pytest.raises(ValueError, match="configured\\(longest=8\\)"):
        model.run_layers(jnp.zeros((1, 1, 32)), cache, view, 0, 1)
    short = model.within(CROSSING)
    assert model.within(CROSSING + 1) is model and short.max_positions == CROSSING
    assert short.run_layers(jnp.zeros((1, 1, 32)), short.init_cache(1, 4), view, 0, 1)
    with pytest.raises(ValueError, match=r"prompt.length\[0\]=4 and max_tokens=5 exceed .* 8"):
        decode(Autoregressive(generator(short, 5)), 0, Prompt.of([[1, 2, 3, 4]]))


def test_dynamic_is_exact_within_its_length_and_refused_beyond():
    model = load(FIXTURES / "llama_dynamic", dtype="float32")
    assert model.max_positions == 16
    prompt = [[5, 9, 5, 9, 5, 9]]
    result = decode(Autoregressive(generator(model)), 0, Prompt.of(prompt))
    np.testing.assert_array_equal(result.tokens, uncached(model, prompt))
    with pytest.raises(ValueError, match="exceed the model's 16 positions"):
        decode(Autoregressive(generator(model, NEW + 1)), 0, Prompt.of(prompt))
