"""Measures of repetition and of predictions at values that are known."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.alignment.hyperfitting.predictions import matching_temperature, predict_all
from experiments.alignment.hyperfitting.repetition import (
    bleu,
    diversity,
    overlap,
    repeated,
    self_bleu,
    type_token_ratio,
)

SAME, OTHER = np.zeros((1, 96), np.int32), np.arange(96, dtype=np.int32)[None]


def letters(*texts: str) -> np.ndarray:
    return np.array([[ord(letter) for letter in text] for text in texts], np.int32)


def test_one_token_and_all_tokens():
    both = np.concatenate([SAME, OTHER])
    assert type_token_ratio(both).tolist() == [1 / 96, 1.0]
    assert repeated(both, 4) == pytest.approx([92 / 93, 0.0])
    assert diversity(both) == pytest.approx([1 / 95 / 94 / 93, 1.0])
    # abab: bigrams ab, ba, ab; trigrams aba, bab; one 4-gram.
    assert diversity(letters("abab")) == pytest.approx(2 / 3)


def test_overlap_is_the_longest_run_within_one_text():
    assert overlap(letters("abcde"), letters("xxabcyy")).tolist() == [3]
    assert overlap(letters("abcd", "wxyz"), letters("ab", "cd")).tolist() == [2, 0]
    rng = np.random.default_rng(0)
    texts = rng.integers(3, size=(5, 12), dtype=np.int32)
    corpus = rng.integers(3, size=(4, 9), dtype=np.int32)

    def longest(text, row):
        runs = [row[i:j].tolist() for i in range(9) for j in range(i + 1, 10)]
        spans = [text[i:j].tolist() for i in range(12) for j in range(i + 1, 13)]
        return max((len(run) for run in runs if run in spans), default=0)

    expected = [max(longest(text, row) for row in corpus) for text in texts]
    assert overlap(texts, corpus).tolist() == expected


def test_bleu():
    assert bleu("abcdef", "abcdef") == 1.0
    assert bleu("abcd", "dcba") == 0.0
    # 5 of 6 letters, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; shorter than 7.
    share = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert bleu("abcdxe", "abcdefg") == pytest.approx(share * math.exp(1 - 7 / 6))
    # A letter counts as often as the reference has it.
    assert bleu("aaaaa", "aaaa") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_self_bleu_takes_the_nearest_of_the_others():
    a, b = letters("abcdef", "uvwxyz")
    assert self_bleu(np.stack([a, a, b])) == pytest.approx(2 / 3)
    assert self_bleu(np.stack([a, b])) == 0.0


@jax.tree_util.register_dataclass
@dataclass
class Table:
    """A model whose next token depends on the newest alone."""

    logits: jax.Array

    def forward(self, tokens, valid=None):
        return self.logits[tokens], jnp.zeros((*tokens.shape, 1))


def test_predictions():
    """Against plain NumPy, with another batch at the end."""
    rng = np.random.default_rng(0)
    table, tokens = 2 * rng.normal(size=(7, 7)), rng.integers(7, size=(5, 6)).astype(np.int32)
    model = Table(jnp.asarray(table, jnp.float32))
    found = predict_all(model, tokens, rows=2)
    p = np.exp(table[tokens[:, :-1]])
    p /= p.sum(axis=2, keepdims=True)
    chosen = np.take_along_axis(p, tokens[:, 1:, None], axis=2)[..., 0]
    np.testing.assert_allclose(found.loss, -np.log(chosen), rtol=1e-5)
    np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(axis=2), rtol=1e-5)
    ranked = np.sort(p, axis=2)[..., ::-1].cumsum(axis=2)
    np.testing.assert_allclose(found.mass, ranked[..., [0, 2, 4]], rtol=1e-5)
    assert np.array_equal(found.top, p.argmax(axis=2))
    assert np.all(found.entropy <= math.log(7)) and np.all(np.diff(found.mass, axis=2) >= 0)


def test_the_temperature_of_an_entropy():
    rng = np.random.default_rng(1)
    tokens = rng.integers(7, size=(4, 6)).astype(np.int32)
    model = Table(jnp.asarray(rng.normal(size=(7, 7)), jnp.float32))
    wanted = float(predict_all(model, tokens, 4, temperature=0.4).entropy.mean())
    assert matching_temperature(model, tokens, 4, wanted) == pytest.approx(0.4, rel=0.01)
