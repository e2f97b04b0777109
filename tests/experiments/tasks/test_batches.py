"""Batches: what a row holds, which tokens are learned, and that steps need no history."""

import itertools

import numpy as np
import pytest

from experiments.tasks.arithmetic import Arithmetic
from experiments.tasks.batches import (
    ExampleBatches,
    PreferenceBatches,
    WindowBatches,
    pack,
    stream,
)
from experiments.tasks.tokenizer import words

CODEC = words(["a", "b", "c"])
TASK = Arithmetic((1, 4))


def test_rows_and_masks():
    batch = pack(CODEC, [("a b", "c"), ("c", "")], [4, 6, 9])
    np.testing.assert_array_equal(batch.tokens, [[1, 3, 4, 5, 2, 0], [1, 5, 2, 0, 0, 0]])
    np.testing.assert_array_equal(batch.loss_mask, [[0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(batch.length, [5, 3])
    assert batch.tokens.dtype == batch.length.dtype == np.int32 and batch.loss_mask.dtype == bool
    every = pack(CODEC, [("a b", "c"), ("c", "")], [6], "all").loss_mask
    np.testing.assert_array_equal(every, [[0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]])
    with pytest.raises(ValueError, match="needs 5 tokens"):
        pack(CODEC, [("a b", "c")], [4])


@pytest.mark.parametrize("pool", [1, 3])
def test_a_step_needs_no_history(pool):
    def make():
        return ExampleBatches(TASK, TASK.tokenizer(), 8, (32, 72), seed=5, pool=pool)

    run = list(itertools.islice(stream(make()), 7))
    resumed = list(itertools.islice(stream(make(), start=4), 3))
    for one, two in zip(run[4:], resumed, strict=True):
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)
    assert any((a.tokens.shape, a.tokens.sum()) != (b.tokens.shape, b.tokens.sum())
               for a, b in itertools.pairwise(run))  # fmt: skip
    pairs = make().pairs(2)
    codec = TASK.tokenizer()
    for row, (prompt, target) in zip(run[2].tokens, pairs, strict=True):
        assert codec.decode(row) == prompt + target and TASK.verify(prompt, target) == 1.0


def test_pools_gather_rows_of_like_length():
    codec = TASK.tokenizer()
    waste = {}
    for pool in (1, 16):
        batches = ExampleBatches(TASK, codec, 8, tuple(range(8, 80)), seed=1, pool=pool)
        sizes = [batches(step) for step in range(32)]
        waste[pool] = 1 - sum(b.length.sum() for b in sizes) / sum(b.tokens.size for b in sizes)
    assert waste[16] < 0.1 < waste[1]
    seen = [p for step in range(16) for p in batches.pairs(step)]
    rng = np.random.default_rng((1, 0))
    drawn = [(e.prompt, e.target) for e in TASK.sample(rng, 128, "train")]
    assert sorted(seen) == sorted(drawn)


def test_preferences_share_a_width():
    def triples(rng, rows):
        return [("a", "b " * (1 + int(rng.integers(3))) + "c", "c") for _ in range(rows)]

    batches = PreferenceBatches(triples, CODEC, 4, (4, 8), seed=0)
    chosen, rejected = batches(2)
    assert chosen.tokens.shape == rejected.tokens.shape == (4, 8)
    assert (chosen.length > rejected.length).all()
    np.testing.assert_array_equal(rejected.tokens[:, :4], [[1, 3, 5, 2]] * 4)
    np.testing.assert_array_equal(batches(2)[0].tokens, chosen.tokens)


def test_windows_begin_anywhere_or_where_a_document_does():
    documents = [np.arange(100, 130), [CODEC.eos_id], np.arange(130, 150), [CODEC.eos_id]]
    corpus = np.concatenate(documents).astype(np.int32)
    batches = WindowBatches(corpus, CODEC, rows=500, width=9, seed=2, opening=0.25)
    batch = batches(3)
    text = "".join(map(chr, corpus))
    assert all("".join(map(chr, row[1:])) in text for row in batch.tokens)
    assert (batch.tokens[:, 0] == CODEC.bos_id).all() and (batch.length == 9).all()
    assert not batch.loss_mask[:, 0].any() and batch.loss_mask[:, 2:].all()
    opens = np.isin(batch.tokens[:, 1], [100, 130])
    np.testing.assert_array_equal(batch.loss_mask[:, 1], opens)
    # A quarter by intent, and 2 of the 45 places by chance: 0.283 of 500, deviation 0.02.
    assert 0.2 < opens.mean() < 0.37
    assert set(batch.tokens[:, 1]) > set(range(100, 150)) - set(range(142, 150))
    np.testing.assert_array_equal(batches(3).tokens, batch.tokens)
    assert (batches(4).tokens != batch.tokens).any()
    whole = WindowBatches(corpus, CODEC, rows=2, width=len(corpus) + 1, seed=0)
    np.testing.assert_array_equal(whole(0).tokens[:, 1:], [corpus] * 2)
    for width in (1, len(corpus) + 2):
        with pytest.raises(ValueError, match="pass a width from 2 to 53"):
            WindowBatches(corpus, CODEC, 1, width, 0)
