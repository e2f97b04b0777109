"""Rows that have ended make room for others, and no response is another than in waves."""

from typing import Any

import jax
import numpy as np
import pytest

from algorithms.speculative.prompt_lookup import prompt_lookup
from jaxdecode import refill
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode, decode_all
from jaxdecode.logits import FrequencyPenalty, Temperature, chain
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

MODEL = EnumerableLM.random(3, vocab=6, width=6, max_positions=64, sharpness=1.5)
PROMPTS = [[1 + i % 5, 2, i % 6, 4][: 1 + i % 4] for i in range(23)]
BATCH = 6


def decoder(kind: str) -> Autoregressive:
    edits = chain(Temperature(0.9), FrequencyPenalty(0.2, MODEL.vocab_size))
    growth = 3 if kind == "growing" else 1
    generator = Generator(MODEL, edits, Categorical(), Stop.of(5), 20, cache_growth=growth)
    return Autoregressive(prompt_lookup(generator, 3) if kind == "speculating" else generator)


@pytest.mark.parametrize("kind", ["plain", "growing", "speculating"])
def test_refilled_rows_emit_what_they_emit_alone(kind: str, monkeypatch) -> None:
    subject, segments = decoder(kind), []
    run = refill._segment
    monkeypatch.setattr(refill, "_segment", lambda *x: segments.append(x[1]) or run(*x))
    found = dict(decode_all(subject, 3, PROMPTS, BATCH))
    assert sorted(found) == list(range(len(PROMPTS)))
    whole = decode(subject, 3, Prompt.of(PROMPTS, width=8))
    for index, result in found.items():
        for name in ("tokens", "length", "status"):
            np.testing.assert_array_equal(
                getattr(result, name)[0], getattr(whole, name)[index], f"{name} of {index}"
            )
        np.testing.assert_allclose(result.logprob[0], whole.logprob[index], atol=1e-5)
        assert result.usage.emitted[0] == result.length[0]
        assert result.usage.prompt_tokens[0] == len(PROMPTS[index])
    lengths = np.asarray(whole.length)
    assert lengths.min() < lengths.max() == 20, "some rows end early"
    waves = sum(lengths[first : first + BATCH].max() for first in range(0, 23, BATCH))
    if kind == "plain":
        assert len(segments) < waves, "of one token each: fewer steps than waves take"


def test_fewer_prompts_than_rows_are_one_wave(monkeypatch) -> None:
    monkeypatch.setattr(refill, "_segment", None)
    found = dict(decode_all(decoder("plain"), 3, PROMPTS[:4], BATCH))
    assert sorted(found) == [0, 1, 2, 3]


def test_seeds_are_those_of_a_single_batch() -> None:
    seed: Any = np.int64(3)
    numbered = dict(decode_all(decoder("plain"), seed, PROMPTS[:9], BATCH))
    for index, result in decode_all(decoder("plain"), 3, PROMPTS[:9], BATCH):
        np.testing.assert_array_equal(result.tokens, numbered[index].tokens)
    with pytest.raises(ValueError, match=r"key\[0\]=8589934592 must be"):
        decode_all(decoder("plain"), 2**33, PROMPTS[:9], BATCH)


def test_what_is_refused_is_refused_when_it_comes_up() -> None:
    prompts = [[1, 2]] * 7 + [[9]]
    found = decode_all(decoder("plain"), jax.random.key(3), prompts, BATCH)
    with pytest.raises(ValueError, match=r"\b9\b"):
        list(found)
