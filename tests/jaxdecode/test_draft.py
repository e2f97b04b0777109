"""Trees of draft tokens: shapes, descent, and nodes that mean the same."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecode.draft import ROOT, Draft, Shape, Spent, check_parents, depth_of


def draft(tokens, parent, valid=None, depth=4) -> Draft:
    tokens = jnp.asarray([tokens])
    valid = jnp.ones(tokens.shape, bool) if valid is None else jnp.asarray([valid])
    shape = Shape.grown(jnp.asarray([parent]), depth)
    return Draft(tokens, shape, valid, Spent.nothing(1))


@st.composite
def trees(draw) -> list[int]:
    """Parents of a tree of up to 9 nodes, each before its children."""
    count = draw(st.integers(1, 9))
    return [draw(st.integers(ROOT, node - 1)) for node in range(count)]


@given(trees())
@settings(deadline=None, max_examples=40)
def test_a_grown_tree_is_the_fixed_one(parents) -> None:
    fixed = Shape.fixed(np.array(parents), 2)
    padded = parents + [ROOT] * (9 - len(parents))  # one compiled shape for all examples
    grown = Shape.grown(jnp.asarray([padded] * 2), 9)
    count = len(parents)
    assert grown.seen is not None and fixed.seen is not None
    np.testing.assert_array_equal(grown.parent[:, :count], fixed.parent)
    np.testing.assert_array_equal(grown.depth[:, :count], fixed.depth)
    np.testing.assert_array_equal(grown.seen[:, :count, :count], fixed.seen)
    assert depth_of(np.array(parents)) == int(fixed.depth.max())


@given(trees())
@settings(deadline=None, max_examples=40)
def test_a_node_sees_itself_and_its_ancestors(parents) -> None:
    seen = np.asarray(Shape.fixed(np.array(parents), 1).seen)[0]
    for node in range(len(parents)):
        line, above = {node}, parents[node]
        while above != ROOT:
            line, above = line | {above}, parents[above]
        assert set(np.flatnonzero(seen[node])) == line


def test_a_line_is_a_chain() -> None:
    line = Shape.line(2, 3)
    np.testing.assert_array_equal(line.parent, [[-1, 0, 1]] * 2)
    np.testing.assert_array_equal(line.depth, [[1, 2, 3]] * 2)
    assert line.chain and not Shape.fixed(np.array([-1, 0]), 1).chain


@pytest.mark.parametrize("parents", [[0], [-1, 1], [-1, 2, 0], [-2]])
def test_a_node_before_its_parent_is_refused(parents) -> None:
    with pytest.raises(ValueError, match="a node's parent is"):
        check_parents(np.array(parents))


def test_limited_drops_what_lies_deeper() -> None:
    tree = draft([1, 2, 3, 4], [-1, 0, -1, 1])
    kept = tree.limited(jnp.asarray([2])).valid
    np.testing.assert_array_equal(kept, [[True, True, True, False]])
    assert not tree.limited(jnp.asarray([0])).valid.any()


def test_merged_gives_a_repeated_node_one_line_of_descent() -> None:
    """Three drawn sequences, 1 2, 1 3 and 1 2, level by level: all continue the first 1."""
    tree = draft([1, 1, 1, 2, 3, 2, 7], [-1, -1, -1, 0, 1, 2, 5])
    np.testing.assert_array_equal(tree.merged().shape.parent, [[-1, -1, -1, 0, 0, 0, 3]])


def test_merged_leaves_what_is_not_there_alone() -> None:
    """An invalid twin opens no line."""
    tree = draft([1, 1, 2, 2], [-1, -1, 0, 1], valid=[False, True, False, True])
    np.testing.assert_array_equal(tree.merged().shape.parent[0, 3], 1)
