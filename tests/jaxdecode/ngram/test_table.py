"""Tables of n-grams against dictionaries."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.ngram import storage
from jaxdecode.ngram.counts import Counts
from jaxdecode.ngram.table import FREE, WAYS, Entry, Table, combine, scatter_keys

RANDOM = np.random.default_rng(3)
DOCUMENTS = [RANDOM.integers(0, 6, n).tolist() for n in (200, 2, 0, 90)]


@jax.jit
def write(table: Table, keys, tokens, values, count, valid) -> Table:
    return table.write(keys, Entry(tokens, values, count), valid)


@jax.jit
def read(table: Table, keys) -> Entry:
    return table.read(keys)


def test_entries_come_back_as_they_were_last_written() -> None:
    table = Table.empty(2, 512, 3, 2)
    held: list[dict] = [{}, {}]
    for round_ in range(25):
        keys = np.zeros((2, 6, 3), np.int32)
        for b in range(2):  # distinct keys of one write, short ones among them
            chosen = RANDOM.choice(5**3, 6, replace=False)
            keys[b] = np.stack(np.unravel_index(chosen, (5, 5, 5)), axis=1)
            keys[b, 0, 0] = FREE
        tokens = RANDOM.integers(0, 9, (2, 6, 2)).astype(np.int32)
        values = RANDOM.random((2, 6, 2)).astype(np.float32)
        count = np.full((2, 6), round_ + 1, np.int32)
        valid = RANDOM.random((2, 6)) < 0.7
        table = write(table, keys, tokens, values, count, valid)
        for b, q in np.argwhere(valid):
            held[b][tuple(keys[b, q])] = (tokens[b, q], values[b, q], round_ + 1)
    every = np.stack(np.unravel_index(np.arange(6**3), (6, 6, 6)), axis=1).astype(np.int32) - 1
    found = read(table, np.broadcast_to(every, (2, *every.shape)))
    for b in range(2):
        for place, key in enumerate(map(tuple, every)):
            if key in held[b]:
                for got, expected in zip(
                    (found.tokens[b, place], found.values[b, place], found.count[b, place]),
                    held[b][key],
                    strict=True,
                ):
                    np.testing.assert_array_equal(got, expected)
            else:
                assert found.count[b, place] == 0 and (found.tokens[b, place] == FREE).all()


def test_the_least_observed_gives_way_and_its_neighbours_in_a_write_do_not() -> None:
    """One bucket, so that every key meets every other."""
    table = Table.empty(1, WAYS, 1, 1)

    def put(table: Table, keys: list[int], counts: list[int]) -> Table:
        column = np.array(keys, np.int32).reshape(1, -1, 1)
        values = np.ones(column.shape, np.float32)
        return write(
            table,
            column,
            column,
            values,
            np.array([counts], np.int32),
            np.full((1, len(keys)), True),
        )

    def there(table: Table) -> set[int]:
        keys = np.arange(40, dtype=np.int32).reshape(1, -1, 1)
        return set(np.flatnonzero(read(table, keys).count[0]).tolist())

    table = put(table, list(range(8)), [9, 3, 7, 1, 5, 6, 4, 8])
    assert there(table) == set(range(8))
    table = put(
        table, [3, 20, 21, 5, 22, 23, 24, 25], [1] * 8
    )  # 3 and 5 are kept: they are written
    assert there(table) == {3, 5, 20, 21, 22, 23, 24, 25}
    table = put(table, [30, 31, 32, 33, 34, 35, 36, 20], [1] * 8)
    assert there(table) == {30, 31, 32, 33, 34, 35, 36, 20}


def test_a_key_is_compared_in_full() -> None:
    buckets = 64
    keys = RANDOM.integers(0, 1000, (4000, 2)).astype(np.int32)
    alike = scatter_keys(keys, buckets) == scatter_keys(keys[:1], buckets)
    twin = keys[np.flatnonzero(alike)[1]]
    table = Table.empty(1, buckets * WAYS, 2, 1)
    one = np.ones((1, 1, 1))
    table = write(
        table, keys[None, :1], one.astype(np.int32), one.astype(np.float32),
        np.ones((1, 1), np.int32), np.ones((1, 1), bool),
    )  # fmt: skip
    assert read(table, keys[None, :1]).found.all()
    assert not read(table, twin[None, None]).found.any()


def test_both_hashes_are_one_and_spread_keys() -> None:
    keys = np.stack(np.meshgrid(range(64), range(64)), axis=-1).reshape(-1, 2).astype(np.int32)
    bucket = scatter_keys(keys, 512)
    np.testing.assert_array_equal(scatter_keys(jnp.asarray(keys), 512), bucket)
    assert np.bincount(bucket, minlength=512).std() < 1.3 * np.sqrt(8)  # that of random places


def test_combining_sums_equal_tokens_and_keeps_the_largest() -> None:
    tokens = jnp.array([4, 7, FREE, 4, 2, 7, 9])
    values = jnp.array([0.5, 0.1, 9.0, 0.2, 0.3, 0.1, 0.2])
    kept, sums = combine(tokens, values, 3)
    assert kept.tolist() == [4, 2, 7]  # 7 and 9 tie
    np.testing.assert_allclose(sums, [0.7, 0.3, 0.2], atol=1e-6)
    kept, sums = combine(tokens, values, 2, rank=jnp.array([0, 5, 9, 0, 1, 0, 3.0]))
    assert kept.tolist() == [7, 9]
    np.testing.assert_allclose(sums, [0.2, 0.2], atol=1e-6)
    assert combine(tokens[:3], values[:3], 3)[0].tolist() == [4, 7, FREE]


@pytest.mark.parametrize("order", [1, 2])
def test_counts_are_those_of_the_corpus(order: int) -> None:
    follow: dict[tuple[int, ...], Counter[int]] = {}
    for document in DOCUMENTS:
        for i in range(len(document) - order):
            key = tuple(document[i : i + order])
            follow.setdefault(key, Counter())[document[i + order]] += 1
    counts = Counts.of(DOCUMENTS, 6, order, keep=3)
    every = np.stack(np.unravel_index(np.arange(7**order), (7,) * order), axis=1).astype(np.int32)
    found = jax.device_get(counts.read(jnp.asarray(every)))
    for place, key in enumerate(map(tuple, every.tolist())):
        expected = sorted(follow.get(key, {}).items(), key=lambda item: (-item[1], item[0]))
        total = sum(times for _, times in expected)
        assert found.count[place] == total
        tokens = [token for token, _ in expected[:3]]
        assert found.tokens[place].tolist() == tokens + [FREE] * (3 - len(tokens))
        shares = [times / total for _, times in expected[:3]] + [0] * (3 - len(tokens))
        np.testing.assert_allclose(found.values[place], shares, atol=1e-6)


def test_counts_come_back(tmp_path: Path) -> None:
    counts, own = Counts.of(DOCUMENTS, 6), storage.fingerprint("abcdef")
    counts.save(tmp_path / "c.npz", own)
    again = Counts.load(tmp_path / "c.npz", own)
    chex.assert_trees_all_equal(again, counts)


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(ValueError, match="none has 3 tokens"):
        Counts.of([[1, 2], [3]], 6)
    with pytest.raises(ValueError, match="order=0, keep=12"):
        Counts.of([[1, 2]], 6, 0)
