"""Sequoia: the best shape against brute force, its choice, and draws beyond a law's support."""

from __future__ import annotations

from collections import Counter
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.fixed import Fixed
from algorithms.speculative.drafters.tree import Tree
from algorithms.speculative.sequoia import positional
from algorithms.speculative.shapes import Shapes
from jaxdecode.testing.statistics import ALPHA, p_value
from tests.algorithms.toys import grow, markov

CHANCES = (0.6, 0.2, 0.1)


@pytest.mark.parametrize(
    ("chances", "levels", "expected"),
    [
        (
            CHANCES,
            None,
            "1 1.6 1.96 2.176 2.376 2.5056 2.6256 2.7456 2.8456 2.92336 2.99536 3.06736",
        ),
        (CHANCES, 3, "1 1.6 1.96 2.16 2.28 2.4 2.5 2.56 2.62 2.66 2.68 2.7"),
        ((0.5, 0.3, 0.1), None, "1 1.5 1.8 2.05 2.2 2.35 2.475 2.575 2.665 2.74 2.815 2.89"),
    ],
)
def test_worked_numbers(chances, levels, expected) -> None:
    shapes = Shapes.of(chances, 12, levels)
    found = [shapes.expected(size) for size in range(1, 13)]
    known = [float(number) for number in expected.split()]
    np.testing.assert_allclose(found[: len(known)], known, atol=1e-9)


@cache
def every(size: int, levels: int) -> tuple[tuple, ...]:
    """All ordered trees of so many nodes, as tuples of their subtrees."""
    if size == 1:
        return ((),)
    if levels == 1:
        return ()
    return tuple(
        (child, *rest)
        for first in range(1, size)
        for child in every(first, levels - 1)
        for rest in every(size - first, levels)
        if len(rest) < 3
    )


def worth(tree: tuple) -> float:
    return 1 + sum(CHANCES[place] * worth(child) for place, child in enumerate(tree))


@pytest.mark.parametrize("levels", [2, 3, 7])
def test_no_tree_is_better(levels) -> None:
    shapes = Shapes.of(CHANCES, 7, levels)
    for size in range(1, 8):
        best = max(map(worth, every(size, levels)), default=-np.inf)
        np.testing.assert_allclose(shapes.expected(size), best)


def test_the_shape_has_the_value_it_promises() -> None:
    shapes = Shapes.of(CHANCES, 12, 5)
    for size, levels in ((2, 5), (9, 3), (12, 5)):
        parents = shapes.parents(size, levels)
        assert len(parents) == size - 1
        seen: Counter[int] = Counter()
        value = {-1: 1.0}
        for node, above in enumerate(parents):
            value[node] = value[above] * CHANCES[seen[above]]
            seen[above] += 1
        np.testing.assert_allclose(sum(value.values()), shapes.expected(size, levels))
        assert Fixed(parents).depth <= levels - 1


def test_children_that_are_never_accepted_still_make_a_tree() -> None:
    """Of one size only in two levels; a deeper one is worth more."""
    shapes = Shapes.of((0.5, 0.0, 0.0), 5)
    np.testing.assert_allclose(shapes.expected(4, 2), 1.5)
    assert shapes.parents(4, 2) == (-1, -1, -1)
    assert shapes.parents(4) == (-1, 0, 1)


def test_the_fastest_shape_weighs_passes() -> None:
    """Free passes of both kinds ask for all nodes, dear drafts for none, dear width for few."""
    shapes = Shapes.of(CHANCES, 12)
    free = {size: 1.0 for size in range(1, 13)}
    assert shapes.fastest(free, 0.0)[0] == 12
    assert shapes.fastest(free, 100.0) == (1, 1)
    assert shapes.fastest({size: float(size) for size in range(1, 13)}, 0.0) == (1, 1)
    size, levels = shapes.fastest({1: 1.0, 4: 1.1, 8: 2.0}, 0.05)
    assert (size, levels) == (4, 3)


def test_chances_of_each_child() -> None:
    target, draft = jnp.array([0.2, 0.3, 0.5]), jnp.array([0.6, 0.3, 0.1])
    rows = jnp.ones((20_000, 1))
    found = positional(jax.random.key(0), rows * target, rows * draft, 3)
    np.testing.assert_allclose(found, (0.6, 0.1, 0.3), atol=0.015)


def test_draws_beyond_the_support_are_uniform() -> None:
    """Of what was not drawn yet; without `fill` others take their places."""
    sure = markov([(0.0, 1.0, 0.0, 0.0)])
    filled = grow(Tree(sure, Fixed((-1, -1, -1, 0), fill=True)), 4000)
    assert filled.valid.all()
    assert (filled.tokens[:, [0, 3]] == 1).all()
    pairs = {(i, j): 1 / 6 for i in (0, 2, 3) for j in (0, 2, 3) if i != j}
    assert p_value(np.asarray(filled.tokens[:, 1:3]), pairs) > ALPHA
    bare = grow(Tree(sure, Fixed((-1, -1, -1, 0))), 3)
    np.testing.assert_array_equal(bare.valid, [[True, True, False, False]] * 3)
    np.testing.assert_array_equal(bare.shape.parent[:, :2], [[-1, 0]] * 3)


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to at most 1"):
        Shapes.of((0.9, 0.2), 4)
    with pytest.raises(ValueError, match="no such tree"):
        Shapes.of((0.5,), 4, 2).parents(4)
    with pytest.raises(ValueError, match="none of"):
        Shapes.of((0.5,), 4).fastest({9: 1.0}, 1.0)
    with pytest.raises(ValueError, match="level by level"):
        Fixed((-1, 0, -1))
    with pytest.raises(ValueError, match="a node before it"):
        Fixed((-1, 3))
