"""Clusters of keys, worked splits of ranks, and what no context can do about near keys."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.tokens.navigation.key_clusters import (
    attraction,
    bound,
    cluster,
    keys_of,
    movement,
    split,
)
from jaxdecode.testing.enumerable import EnumerableLM


def test_lloyds_rule_never_gets_worse_and_ends_at_nearest_centres() -> None:
    rng = np.random.default_rng(0)
    middle = 4 * rng.normal(size=(7, 5))
    keys = np.concatenate([m + 0.3 * rng.normal(size=(23, 5)) for m in middle]).astype(np.float32)
    for seed, count, chunk in ((0, 7, 50), (1, 12, 161), (2, 40, 8192)):
        found = cluster(keys, count, seed, chunk=chunk)
        assert (np.diff(found.inertia) <= 1e-3).all() and len(found.inertia) > 1
        apart = ((keys[:, None] - found.centre) ** 2).sum(2)
        own = apart[np.arange(len(keys)), found.of]
        np.testing.assert_allclose(own, apart.min(1), 1e-4, 1e-4)
        assert len(np.unique(found.of)) == count
        again = cluster(keys, count, seed, chunk=chunk)
        np.testing.assert_array_equal(again.of, found.of)
    # Stopped early, keys are with the centres that are returned.
    early = cluster(keys, 12, 1, iterations=1)
    apart = ((keys[:, None] - early.centre) ** 2).sum(2)
    np.testing.assert_allclose(apart[np.arange(len(keys)), early.of], apart.min(1), 1e-4, 1e-4)
    # Copies of one key leave clusters empty, which begin anew elsewhere.
    copied = np.concatenate([np.zeros((30, 2)), [[5.0, 5.0], [9.0, 9.0]]]).astype(np.float32)
    assert cluster(copied, 3, 0).inertia[-1] == 0


def test_a_worked_split() -> None:
    clusters = (3, 7, 3, 5, 7, 3, 9, 5)
    found = split(clusters, (1, 0, 0, 1, 0, 1, 1, 0), 2)
    assert found.top == 0.5
    assert found.inside.ranks == (3, 5, 6) and found.outside.ranks == (4, 7, 8)
    assert found.inside.accuracy == pytest.approx(1 / 3) and found.outside.accuracy == (
        pytest.approx(2 / 3)
    )
    assert found.inside.rank == pytest.approx(14 / 3) and found.outside.rank == (
        pytest.approx(19 / 3)
    )
    assert found.inside.share == found.outside.share == 0.5
    alone = split((1, 2, 3), (1, 1, 0), 1)
    assert np.isnan(alone.inside.accuracy) and alone.inside.share == 0 == alone.outside.share - 1


def test_no_context_sets_near_keys_apart() -> None:
    model = EnumerableLM.random(0, 9, width=6)
    model = replace(model, bias=jnp.zeros(9), head=model.head.at[:, 4].set(model.head[:, 2]))
    keys = keys_of(model)
    queries = jnp.asarray(np.random.default_rng(0).normal(size=(50, 6)), jnp.float32)
    logits = model.unembed(queries)
    one, other = (x.reshape(-1) for x in jnp.meshgrid(jnp.arange(9), jnp.arange(9)))
    gap = jnp.abs(logits[:, one] - logits[:, other])
    most = bound(keys, one, other, queries[:, None])
    assert bool((gap <= most + 1e-4).all())
    assert bool((gap > 0.9 * most)[:, one != other].any())  # and it is no idle bound
    np.testing.assert_array_equal(logits[:, 4], logits[:, 2])  # a copied key: always a tie


def test_movement_of_the_query() -> None:
    query = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    np.testing.assert_allclose(movement(query), [1.0, 0.5**0.5, 0.0], atol=1e-6)
    keys = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    found = attraction(keys, query, jnp.array([[0, -1], [1, 2], [3, 3]]))
    np.testing.assert_allclose(found, [2**0.5, 1.0, 0.0], atol=1e-5)


def test_refusals() -> None:
    keys = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="count=5"):
        cluster(keys, 5)
    with pytest.raises(ValueError, match="iterations=0"):
        cluster(keys, 2, iterations=0)
    with pytest.raises(ValueError, match="top=2 of 2 ranks"):
        split((1, 2), (1, 0), 2)
