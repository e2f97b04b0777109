"""Prompts: batching, buckets, and what is refused before any compute."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.prompt import Prompt, bucket, check_prompt


def test_a_ragged_batch_is_padded_on_the_right() -> None:
    prompt = Prompt.of([[3, 1, 2], [5]], ids=[4, 2], width=4)
    assert prompt.tokens.tolist() == [[3, 1, 2, 0], [5, 0, 0, 0]]
    assert prompt.length.tolist() == [3, 1]
    assert prompt.id.tolist() == [4, 2]
    assert prompt.batch == 2
    assert prompt.tokens.dtype == prompt.length.dtype == prompt.id.dtype == jnp.int32


def test_width_and_ids_have_defaults() -> None:
    prompt = Prompt.of([[1] * 17, [2]])
    assert prompt.tokens.shape == (2, bucket(17)) == (2, 24)
    assert prompt.id.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "sequences: no prompts given; pass at least one"),
        (([[1], []],), r"sequences\[1\] is empty: .* \(a BOS token will do\)"),
        (([[1], [1, 2, 3]], None, 2), "width=2 is below the longest prompt of 3 .* width>=3"),
        (([[1], [2]], [7]), "ids: 1 given for 2 sequences; pass one for each"),
    ],
)
def test_what_cannot_be_batched_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Prompt.of(*arguments)


def batch(tokens, length) -> Prompt:
    return Prompt(jnp.asarray(tokens), jnp.asarray(length), jnp.arange(len(length)))


@pytest.mark.parametrize(
    ("prompt", "capacity", "message"),
    [
        (batch([[1, 2], [3, 4]], [2, 0]), None, r"prompt.length\[1\]=0 .* 1..2; .* BOS token"),
        (batch([[1, 2], [3, 4]], [3, 1]), None, r"prompt.length\[0\]=3 must lie in 1..2"),
        (batch([[1, 2], [3, 9]], [2, 2]), None, r"prompt.tokens\[1, 1\]=9 .* 0..8; .*tokenizer"),
        (batch([[-1, 2]], [1]), None, r"prompt.tokens\[0, 0\]=-1 is outside the vocabulary 0..8"),
        (batch([[1, 2], [3, 4]], [1, 2]), 1, r"prompt.length\[1\]=2 exceeds the 1 .* shorten"),
    ],
)
def test_what_a_model_cannot_run_is_refused(prompt, capacity, message) -> None:
    """By name, place and value, with a remedy."""
    with pytest.raises(ValueError, match=message):
        check_prompt(prompt, 9, capacity)


def test_sound_prompts_pass() -> None:
    """What stands in the padding does not matter, and a traced prompt cannot be read."""
    check_prompt(batch([[1, 99], [8, 0]], [1, 2]), 9, 2)
    traced = jax.jit(lambda prompt: check_prompt(prompt, 9) or prompt.length)
    assert traced(batch([[99]], [1])).tolist() == [1]


def test_buckets_grow_by_half_in_multiples_of_eight() -> None:
    widths = sorted({bucket(length) for length in range(1, 1025)})
    assert widths == [16, 24, 40, 64, 96, 144, 216, 328, 496, 744, 1120]
    for width in widths:
        assert bucket(width) == width
    for length in range(1, 1025):
        narrower = [width for width in widths if width < bucket(length)]
        assert bucket(length) >= length > max(narrower, default=0)
    assert bucket(5, smallest=4) == 8
    with pytest.raises(ValueError, match="smallest=0: widths grow from at least 1"):
        bucket(5, smallest=0)


def test_buckets_are_few_and_waste_little() -> None:
    """The numbers that the module gives for its choice."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.round(rng.lognormal(np.log(100), 0.8, 1000)), 8, 1024).astype(int)
    widths = np.array([bucket(length) for length in lengths])
    doubled = 2 ** np.ceil(np.log2(lengths))
    assert (len(set(lengths)), len(set(widths))) == (303, 11)
    assert widths.sum() / lengths.sum() == pytest.approx(1.22, abs=0.005)
    assert doubled.sum() / lengths.sum() == pytest.approx(1.44, abs=0.005)
