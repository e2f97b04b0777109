"""Running decoders: one prompt batch, and data sets of ragged prompts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode import struct
from jaxdecode.decoder import decode, decode_all, take
from jaxdecode.prompt import Prompt, bucket, check_prompt
from jaxdecode.result import Result, Usage
from jaxdecode.sampling import row_keys
from jaxdecode.types import Array, Key

VOCAB = 50
TRACED: list[tuple[int, ...]] = []


@struct.dataclass
class Echo:
    """Emits the prompt's last token plus `shift`, and a random number of its row."""

    shift: Array

    def check(self, prompt: Prompt) -> None:
        check_prompt(prompt, VOCAB)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        TRACED.append(prompt.tokens.shape)
        last = jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)
        draw = jax.vmap(jax.random.uniform)(row_keys(key, prompt.id, jnp.zeros_like(prompt.id)))
        one = jnp.ones((prompt.batch,), jnp.int32)
        usage = Usage.zeros(prompt.batch).add(prompt_tokens=prompt.length, emitted=one)
        return Result(last + self.shift, one, draw, one, usage, trace={"id": prompt.id})


def echo(shift: int = 3) -> Echo:
    return Echo(jnp.asarray(shift))


def test_a_seed_is_a_key() -> None:
    prompt = Prompt.of([[1, 2], [5]])
    a, b = decode(echo(), 7, prompt), decode(echo(), jax.random.key(7), prompt)
    np.testing.assert_array_equal(a.logprob, b.logprob)
    assert (a.logprob != decode(echo(), 8, prompt).logprob).all()
    assert a.tokens.tolist() == [[5], [8]]


def test_new_numbers_and_seeds_compile_nothing() -> None:
    decode(echo(), 0, Prompt.of([[1, 2]], width=6))
    before = len(TRACED)
    result = decode(echo(9), 1, Prompt.of([[4, 4, 4]], width=6))
    assert result.tokens.tolist() == [[13]]
    assert len(TRACED) == before


def test_refused_before_any_compute() -> None:
    before = len(TRACED)
    with pytest.raises(ValueError, match=r"prompt.tokens\[0, 1\]=50 is outside the vocabulary"):
        decode(echo(), 0, Prompt.of([[1, 50, 1]], width=77))
    assert len(TRACED) == before


LENGTHS = (3, 30, 1, 17, 2, 60, 16, 5, 20)


def dataset() -> list[list[int]]:
    return [[index + 1] * length for index, length in enumerate(LENGTHS)]


def test_every_prompt_is_decoded_once_whatever_the_batch() -> None:
    """In order of width, then of place; each as if it had been alone."""
    prompts = dataset()
    order = sorted(range(len(prompts)), key=lambda index: (bucket(LENGTHS[index]), index))
    for batch in (1, 4):
        results = list(decode_all(echo(), 5, prompts, batch))
        assert [index for index, _ in results] == order
        for index, result in results:
            alone = decode(echo(), 5, Prompt.of([prompts[index]], [index]))
            assert result.tokens.tolist() == alone.tokens.tolist() == [[index + 1 + 3]]
            assert result.logprob.tolist() == alone.logprob.tolist()
            assert result.usage.prompt_tokens.tolist() == [LENGTHS[index]]
            assert result.trace["id"].tolist() == [index]


def test_batches_are_of_one_shape_for_each_width() -> None:
    """The last batch of a width is filled up with copies, which nobody sees."""
    TRACED.clear()
    results = list(decode_all(echo(), 5, dataset(), batch=3))
    assert len(results) == len(LENGTHS)
    assert set(TRACED) <= {(3, bucket(length)) for length in LENGTHS}
    list(decode_all(echo(), 6, dataset()[::-1], batch=3))
    assert len(TRACED) == len(set(TRACED))


def test_ids_name_the_prompts_for_their_draws() -> None:
    prompts, ids = dataset(), [100 + index for index in range(len(LENGTHS))]
    named = dict(decode_all(echo(), 5, prompts, 4, ids))
    reverse = dict(decode_all(echo(), 5, prompts[::-1], 4, ids[::-1]))
    other = dict(decode_all(echo(), 5, prompts, 4))
    for index in range(len(prompts)):
        mirrored = reverse[len(prompts) - 1 - index]
        assert named[index].trace["id"].tolist() == [ids[index]]
        assert named[index].logprob.tolist() == mirrored.logprob.tolist()
        assert named[index].logprob.tolist() != other[index].logprob.tolist()


def test_no_prompts_no_results() -> None:
    assert list(decode_all(echo(), 0, [], batch=2)) == []


@pytest.mark.parametrize(
    ("prompts", "batch", "ids", "message"),
    [
        ([[1]], 0, None, "batch=0: at least one row is needed"),
        ([[1], []], 1, None, r"prompts\[1\] is empty: .* \(a BOS token will do\)"),
        ([[1], [2]], 1, [4], "ids: 1 given for 2 prompts; pass one for each"),
    ],
)
def test_bad_data_sets_are_refused_at_once(prompts, batch, ids, message) -> None:
    """By the call, not by the first result."""
    with pytest.raises(ValueError, match=message):
        decode_all(echo(), 0, prompts, batch, ids)


def test_a_row_is_taken_with_its_batch_axis() -> None:
    tree = {"a": jnp.arange(6).reshape(3, 2), "b": (jnp.arange(3),)}
    row = take(tree, 1)
    assert row["a"].tolist() == [[2, 3]] and row["b"][0].tolist() == [1]
