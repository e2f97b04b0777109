"""DySpec: the order of growth, both forms on the same draws, and growth that peeks."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters import dynamic
from algorithms.speculative.drafters.dynamic import Greedy, Threshold
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.dyspec import PAPER, dyspec, dyspec_threshold
from jaxdecode import sampling
from jaxdecode.draft import Draft
from jaxdecode.logits import Identity
from jaxdecode.paper import citation
from jaxdecode.testing.statistics import ALPHA
from tests.algorithms.toys import (
    DRAFT,
    DRAFT_ROWS,
    TARGET_ROWS,
    emitting,
    fit,
    grow,
    markov,
    per_round,
    sample,
)
from tests.references import trees as reference

TEXTS = 20_000
LAW = (0.6, 0.3, 0.1)
FREE = markov([LAW])


def nodes(draft: Draft, row: int) -> dict[tuple[int, ...], float]:
    """Every node's path and the value of the draw that made it, in the order of growth."""
    found: dict[tuple[int, ...], float] = {}
    paths: list[tuple[int, ...]] = []
    assert draft.logq is not None and draft.source is not None
    logq = np.asarray(draft.logq[row], np.float64)
    reached: dict[tuple[int, ...], float] = {(): 1.0}
    tried: dict[tuple[int, ...], float] = {}
    for node in np.flatnonzero(draft.valid[row]):
        parent = int(draft.shape.parent[row, node])
        above = paths[parent] if parent >= 0 else ()
        token = int(draft.tokens[row, node])
        chance = float(np.exp(logq[draft.source[row, node], token]))
        path = (*above, token)
        found[path] = reached[above] * (1 - tried.get(above, 0.0))
        tried[above] = tried.get(above, 0.0) + chance
        reached[path] = reached[above] * chance
        paths.append(path)
    return found


@pytest.fixture
def likeliest(monkeypatch) -> None:
    """Draws in the order of their probabilities."""
    monkeypatch.setattr(sampling, "gumbel", lambda keys, vocab: jnp.zeros((len(keys), vocab)))


def most(budget: int) -> float:
    """The largest sum of values of any tree that holds parents and earlier siblings."""
    paths: set[tuple[int, ...]] = {()}
    for _ in range(budget):
        paths |= {(*path, token) for path in paths for token in range(3)}
    value = {
        path: np.prod([LAW[token] for token in path[:-1]]) * (1 - sum(LAW[: path[-1]]))
        for path in paths
        if path
    }
    trees: set[frozenset[tuple[int, ...]]] = {frozenset()}
    for _ in range(budget):
        trees = {
            tree | {path}
            for tree in trees
            for path in value
            if path not in tree
            and (path[:-1] in tree or len(path) == 1)
            and (path[-1] == 0 or (*path[:-1], path[-1] - 1) in tree)
        }
    return max(sum(float(value[path]) for path in tree) for tree in trees)


def test_order_of_growth(likeliest) -> None:
    """The worked trees of 3, 5 and 7 nodes; no tree of the size is worth more."""
    found = nodes(grow(Tree(FREE, Greedy(7)), 1), 0)
    expected = {(0,): 1, (0, 0): 0.6, (1,): 0.4, (0, 0, 0): 0.36, (1, 0): 0.3, (0, 1): 0.24}
    expected[0, 0, 0, 0] = 0.216
    assert list(found)[:5] == list(expected)[:5]
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(sorted(found.values()), sorted(expected.values()), atol=1e-6)
    sums = np.cumsum(list(found.values()))
    np.testing.assert_allclose(sums[[2, 4, 6]], (2.0, 2.66, 3.116), atol=1e-6)
    for budget in (1, 2, 3, 4):
        np.testing.assert_allclose(sums[budget - 1], most(budget), atol=1e-6)


def test_both_forms_draw_the_same() -> None:
    """A threshold keeps the draws that the greedy form makes first, whatever is drawn."""
    rows, budget, least = 40, 12, 0.255
    greedy = grow(Tree(DRAFT, Greedy(budget)), rows)
    level = grow(Tree(DRAFT, Threshold(least, budget)), rows)
    sizes = set()
    for row in range(rows):
        mine = nodes(greedy, row)
        values = list(mine.values())
        assert len(mine) == budget
        assert all(b <= a + 1e-6 for a, b in pairwise(values))
        kept = nodes(level, row)
        wanted = {path for path, value in mine.items() if value >= least}
        assert kept.keys() == wanted
        sizes.add(len(kept))
    assert len(sizes) > 1 and max(sizes) < budget
    passes = np.asarray(level.spent.passes)
    assert (passes < np.asarray(greedy.spent.passes)).all()


def test_a_full_threshold_tree_keeps_the_most_valuable_draws() -> None:
    small = grow(Tree(DRAFT, Threshold(0.01, 4)), 30)
    assert small.valid.all()
    for row in range(30):
        values = list(nodes(small, row).values())
        assert min(values) >= 0.01


def test_shape_follows_the_draft() -> None:
    """A sure draft gives a chain, an ignorant one a bush; a bound on levels holds."""
    sure = markov([(0.0, 1.0, 0.0)])
    chain = grow(Tree(sure, Greedy(4)), 2)
    np.testing.assert_array_equal(chain.shape.depth, [[1, 2, 3, 4]] * 2)
    bush = grow(Tree(markov([(1 / 3, 1 / 3, 1 / 3)]), Greedy(4)), 2)
    assert (bush.shape.depth[:, :2] == 1).all() and bush.shape.depth.max() == 2
    low = grow(Tree(sure, Greedy(4, levels=2)), 2)
    np.testing.assert_array_equal(low.valid, [[True, True, False, False]] * 2)


def after(rows, last: int, path: tuple[int, ...]) -> np.ndarray:
    """The law after a path that follows the token `last`."""
    return np.asarray(rows[path[-1] if path else last])


def naive(grow_tree, texts: int) -> tuple[float, float]:
    """Tokens a round and nodes a tree of a plain loop, until texts of three tokens are out."""
    rng = np.random.default_rng(0)
    emitted, sizes = [], []
    for _ in range(texts):
        last, length = 0, 0
        while length < 3:
            draft, target = (partial(after, rows, last) for rows in (DRAFT_ROWS, TARGET_ROWS))
            tree = grow_tree(rng, draft)
            found = reference.verify(rng, target, draft, tree)
            emitted.append(len(found))
            sizes.append(sum(map(len, tree.values())))
            last, length = found[-1], length + len(found)
    return float(np.mean(emitted)), float(np.mean(sizes))


@pytest.mark.parametrize("form", ["greedy", "threshold"])
def test_texts_follow_the_target(form) -> None:
    """And yields and sizes are those of a naive loop."""
    if form == "greedy":
        speculator = dyspec(emitting(), DRAFT, 10, Identity())
        tokens, size = naive(lambda rng, law: reference.heap(rng, law, 10), 4000)
    else:
        speculator = dyspec_threshold(emitting(), DRAFT, 24, 0.137, transform=Identity())
        tokens, size = naive(lambda rng, law: reference.threshold(rng, law, 0.137), 4000)
    result = sample(speculator, TEXTS)
    assert fit(result) > ALPHA
    np.testing.assert_allclose(per_round(result), tokens, atol=0.07)
    nodes_a_round = result.usage.drafted.sum() / result.usage.target_passes.sum()
    np.testing.assert_allclose(nodes_a_round, size, rtol=0.02)


def test_growth_that_peeks_is_caught(monkeypatch) -> None:
    """Drawing first and keeping the nodes with the most probable paths."""

    def peeking(front, count):
        ranked = front.ranked(min(count, front.logq.shape[2]))
        token, value = DRAWS(front, count)
        return token, value * jnp.exp(ranked.logprob)

    monkeypatch.setattr(dynamic, "draws", peeking)
    assert fit(sample(dyspec(emitting(), DRAFT, 3, Identity()), TEXTS)) < ALPHA


DRAWS = dynamic.draws


def test_bad_values_are_refused_and_the_paper_is_cited() -> None:
    with pytest.raises(ValueError, match="budget=0"):
        Greedy(0)
    with pytest.raises(ValueError, match="threshold=0"):
        Threshold(0.0, 4)
    with pytest.raises(ValueError, match="children=0"):
        Threshold(0.1, 4, children=0)
    assert PAPER.bibtex() in citation(dyspec(emitting(), DRAFT, 2))
