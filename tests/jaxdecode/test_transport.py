"""Selection among independent drafts: worked numbers, the linear programme, the identities."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.transport import (
    accepted,
    ceiling,
    division,
    k_seq,
    multi_round,
    optimum,
    overlap,
    remainder,
)
from tests.references import transport as reference

FIRST = ((0.2, 0.3, 0.5), (0.6, 0.3, 0.1))  # target, draft
SECOND = ((0.1, 0.2, 0.3, 0.4), (0.5, 0.3, 0.15, 0.05))
LAWS = jax.random.dirichlet(jax.random.key(0), jnp.full((4,), 0.7), (2, 60))


@pytest.mark.parametrize(
    ("laws", "count", "rho", "chance", "best", "bound", "rounds"),
    [
        (FIRST, 1, 1.0, 0.6, 0.6, 0.6, 0.6),
        (FIRST, 2, 1.584429, 0.658443, 0.69, 0.69, 0.64),
        (FIRST, 3, 2.100031, 0.710003, 0.771, 0.771, 0.676),
        (FIRST, 4, 2.547464, 0.754746, 0.8439, 0.8439, 0.7084),
        (SECOND, 2, 1.614143, 0.622829, 0.66, 0.675, 0.6),
        (SECOND, 3, 2.108127, 0.705406, 0.742625, 0.742625, 0.68),
        (SECOND, 4, 2.61325, 0.730662, 0.785494, 0.785494, 0.711),
        (((1.0, 0.0), (0.5, 0.5)), 2, 1.5, 0.75, 0.75, 0.75, 0.75),
        (((1.0, 0.0), (0.5, 0.5)), 3, 1.75, 0.875, 0.875, 0.875, 0.875),
        (((1.0, 0.0), (0.5, 0.5)), 4, 1.875, 0.9375, 0.9375, 0.9375, 0.9375),
    ],
)
def test_worked_numbers(laws, count, rho, chance, best, bound, rounds) -> None:
    target, draft = map(jnp.asarray, laws)
    found = (
        division(target, draft, count),
        k_seq(target, draft, count),
        optimum(target, draft, count),
        ceiling(target, draft, count),
        multi_round(target, draft, count),
    )
    np.testing.assert_allclose(found, (rho, chance, best, bound, rounds), atol=2e-6)


def test_remainders_known() -> None:
    target, draft = map(jnp.asarray, FIRST)
    for count in (1, 2, 3, 4):
        left = remainder(target, draft, division(target, draft, count), count)
        np.testing.assert_allclose(left, (0, 0, 1), atol=1e-6)
    target, draft = map(jnp.asarray, SECOND)
    left = remainder(target, draft, division(target, draft, 2), 2)
    np.testing.assert_allclose(left, (0, 0, 0.153454, 0.846546), atol=2e-6)


def test_sorting_solves_the_linear_programme() -> None:
    for target, draft in zip(*np.asarray(LAWS, np.float64)[:, :8], strict=True):
        target, draft = target / target.sum(), draft / draft.sum()
        for count in (1, 2, 3):
            expected = reference.optimum(target, draft, count)
            found = optimum(jnp.asarray(target), jnp.asarray(draft), count)
            np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_what_is_emitted_follows_the_target(count) -> None:
    """Elementwise, at the best rho and above it; below it no law remains."""
    target, draft = LAWS
    best = division(target, draft, count)
    for rho in (best, (best + count) / 2):
        beta = overlap(target, draft, rho)
        chance = accepted(beta, count)
        taken = jnp.minimum(draft, target / rho[:, None]) * (chance / beta)[:, None]
        assert float(jnp.max(taken - target)) < 1e-5
        left = remainder(target, draft, rho, count)
        whole = taken + (1 - chance)[:, None] * left
        np.testing.assert_allclose(whole, target, atol=1e-5)
    if count > 1:
        rho = 1 + 0.9 * (best - 1)
        beta = overlap(target, draft, rho)
        taken = jnp.minimum(draft, target / rho[:, None]) * (accepted(beta, count) / beta)[:, None]
        assert float(jnp.max(taken - target)) > 1e-3


def test_order_of_the_rules() -> None:
    target, draft = LAWS
    before = optimum(target, draft, 1)
    single = before
    for count in (1, 2, 3, 4, 8):
        rule, best = k_seq(target, draft, count), optimum(target, draft, count)
        slack = 1e-5
        assert (rule >= before - slack).all()
        assert (single <= rule + slack).all()
        assert (rule <= best + slack).all()
        assert (best <= ceiling(target, draft, count) + slack).all()
        assert (rule >= (1 - (1 - 1 / count) ** count) * best - slack).all()
        assert (multi_round(target, draft, count) <= best + slack).all()
        before = rule


def test_edges() -> None:
    """Disjoint supports accept nothing, equal laws everything; counts may be traced."""
    target, draft = jnp.array([0.0, 0.4, 0.6]), jnp.array([1.0, 0.0, 0.0])
    assert k_seq(target, draft, 3) == 0
    np.testing.assert_allclose(remainder(target, draft, 1.0, 3), target)
    assert division(target, target, 4) <= 1 + 1e-5
    np.testing.assert_allclose(k_seq(target, target, 4), 1, atol=1e-5)
    many = jax.jit(division)(LAWS[0, :3], LAWS[1, :3], jnp.array([1, 2, 5]))
    one = [division(LAWS[0, i], LAWS[1, i], count) for i, count in enumerate((1, 2, 5))]
    np.testing.assert_allclose(many, one, rtol=1e-6)
