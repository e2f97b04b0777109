"""Lookup in a text, suffix arrays and tries against what brute force finds."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.ngram.corpus import Corpus, join, suffix_array
from jaxdecode.ngram.lookup import lookup
from jaxdecode.ngram.trie import Continuations, Tree, grow
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text

lookup = jax.jit(lookup, static_argnums=(1, 2), static_argnames=("longest", "whole"))
grow = jax.jit(grow, static_argnums=(1, 2))

RANDOM = np.random.default_rng(5)
DOCUMENTS = [RANDOM.integers(0, 3, n).tolist() for n in (60, 1, 0, 35)]
CORPUS = Corpus.of(DOCUMENTS, 3)
LENGTH = 5


def text_of(*rows: list[int], room: int = 40) -> Text:
    return Text.of(Prompt.of(rows), room)


def listed(found: Continuations, row: int) -> list[tuple[int, ...]]:
    """The continuations of a row, each as often as it weighs."""
    out = []
    for tokens, weight in zip(*jax.device_get((found.tokens[row], found.weight[row])), strict=True):
        out += [tuple(int(t) for t in tokens if t >= 0)] * int(weight)
    return out


def paths(tree: Tree, row: int) -> dict[tuple[int, ...], float]:
    """The nodes of a row's tree, as sequences from the root, and their weights."""
    tree = jax.device_get(tree)
    out: list[tuple[int, ...]] = []
    weights = {}
    for node in range(tree.tokens.shape[1]):
        above = int(tree.parent[row, node])
        assert above < node
        path = (*(out[above] if above >= 0 else ()), int(tree.tokens[row, node]))
        out.append(path)
        if tree.valid[row, node]:
            assert len(path) == tree.depth[row, node] and path not in weights
            weights[path] = float(tree.weight[row, node])
    return weights


def brute_lookup(text: list[int], whole: bool, longest: int = 3) -> list[tuple[int, ...]]:
    for n in range(min(longest, len(text)), 0, -1):
        need = LENGTH if whole else 1
        starts = [i for i in range(len(text) - n) if text[i : i + n] == text[-n:]]
        found = [tuple(text[i + n : i + n + LENGTH]) for i in starts if i + n + need <= len(text)]
        if found:
            return found
    return []


@pytest.mark.parametrize("whole", [True, False])
def test_lookup_finds_what_brute_force_finds(whole: bool) -> None:
    rows = [RANDOM.integers(0, 4, n).tolist() for n in (1, 2, 7, 12, 20, 33)]
    found = lookup(text_of(*rows), 4, LENGTH, whole=whole)
    for row, text in enumerate(rows):
        assert listed(found, row) == brute_lookup(text, whole)[:4]


def test_lookup_takes_the_longest_end_that_leaves_a_whole_continuation() -> None:
    text = [1, 2, 3, 9, 9, 9, 9, 9, 1, 2, 3]
    found = lookup(text_of(text), 2, 3)
    assert listed(found, 0) == [(9, 9, 9)]
    # Of the end (3) alone, the second occurrence has too few tokens after it.
    text = [3, 5, 6, 7, 8, 3, 4, 3]
    assert listed(lookup(text_of(text), 2, 4, longest=1), 0) == [(5, 6, 7, 8)]
    assert listed(lookup(text_of(text), 2, 4, longest=1, whole=False), 0) == [(5, 6, 7, 8), (4, 3)]


def test_suffixes_are_sorted() -> None:
    joined = join(DOCUMENTS, 3)
    brute = sorted(range(len(joined)), key=lambda i: joined[i:].tolist())
    assert suffix_array(joined).tolist() == brute
    assert suffix_array(np.zeros(9, np.int32)).tolist() == list(range(8, -1, -1))
    assert suffix_array(np.array([4], np.int32)).tolist() == [0]


def brute_retrieve(text: list[int]) -> tuple[int, list[tuple[int, ...]]]:
    for n in range(min(16, len(text)), 1, -1):
        found = [
            tuple(d[i + n : i + n + LENGTH])
            for d in DOCUMENTS
            for i in range(len(d) - n + 1)
            if d[i : i + n] == text[-n:]
        ]
        if found:
            return n, sorted(f for f in found if f)
    return 0, []


def test_retrieval_finds_what_brute_force_finds() -> None:
    rows = [RANDOM.integers(0, 3, n).tolist() for n in (1, 2, 3, 9, 20)]
    rows += [DOCUMENTS[0][3:30], DOCUMENTS[0][-4:], DOCUMENTS[3]]
    text = text_of(*rows)
    found, few, (_, _, matched) = jax.jit(
        lambda text: (
            CORPUS.retrieve(text, 64, LENGTH),
            CORPUS.retrieve(text, 2, LENGTH),
            CORPUS.longest(text, 16, 2),
        )
    )(text)
    for row, tokens in enumerate(rows):
        length, expected = brute_retrieve(tokens)
        assert int(matched[row]) == length
        assert sorted(listed(found, row)) == expected
    assert all(set(listed(few, r)) <= set(listed(found, r)) for r in range(len(rows)))
    assert len(listed(few, 1)) == 2


def test_a_tree_holds_the_heaviest_prefixes() -> None:
    tokens = RANDOM.integers(0, 3, (3, 24, 4))
    ends = RANDOM.integers(0, 5, (3, 24))
    tokens[np.arange(4) >= ends[..., None]] = -1
    weight = RANDOM.integers(0, 3, (3, 24)).astype(np.float32)
    found = Continuations(jnp.asarray(tokens), jnp.asarray(weight))
    for budget in (4, 12, 200):
        tree = grow(found, budget)
        shallow = grow(found, budget, "shallow")
        for row in range(3):
            counts: Counter[tuple[int, ...]] = Counter()
            for path in listed(found, row):
                counts.update(path[:n] for n in range(1, len(path) + 1))
            order = sorted(counts, key=lambda p: (-counts[p], len(p)))
            got = paths(tree, row)
            assert got == {path: counts[path] for path in got}
            assert len(got) == min(budget, len(counts))
            assert sorted(got.values()) == sorted(counts[p] for p in order[:budget])
            lengths = sorted(map(len, counts))
            assert sorted(map(len, paths(shallow, row))) == lengths[:budget]


def test_a_tree_of_nothing_is_empty() -> None:
    tree = grow(Continuations(jnp.full((1, 2, 3), -1), jnp.zeros((1, 2))), 5)
    assert not tree.valid.any() and tree.tokens.shape == (1, 5)


def test_ranked_prefixes_of_one_text() -> None:
    rows = [[1, 3, 7], [1, 3, 7], [1, 24], [2, 5, 8], [26, 17]]
    tokens = np.full((1, 5, 3), -1)
    for place, row in enumerate(rows):
        tokens[0, place, : len(row)] = row
    tree = grow(Continuations(jnp.asarray(tokens), jnp.ones((1, 5))), 5)
    assert paths(tree, 0) == {(1,): 3, (2,): 1, (26,): 1, (1, 3): 2, (1, 3, 7): 2}


def test_bad_documents_are_refused() -> None:
    with pytest.raises(ValueError, match=r"documents\[1\] holds token 7, outside"):
        Corpus.of([[1], [2, 7]], 3)
    with pytest.raises(ValueError, match="none has a token"):
        Corpus.of([[], []], 3)
