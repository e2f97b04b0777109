"""Finite laws: entropies, bounds and filling against sums over every text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jaxdecode.finite_law import FiniteLaw

BITS = FiniteLaw(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0.4, 0.1, 0.2, 0.3]))


def ragged(seed: int) -> FiniteLaw:
    """A law without any symmetry, most texts missing."""
    rng = np.random.default_rng(seed)
    texts = np.array(list(itertools.product(range(3), repeat=4)))[rng.permutation(81)[:17]]
    weight = rng.random(17)
    return FiniteLaw(texts, weight / weight.sum())


def filled_naively(law: FiniteLaw, sets) -> dict[tuple[int, ...], float]:
    """Every text that filling can make, impossible ones included, one step after another."""
    texts = list(zip(map(tuple, law.support.tolist()), law.probability, strict=True))
    made = {(): 1.0}
    done: list[int] = []
    for places in sets:
        more = {}
        for state, p in made.items():
            stands = dict(zip(done, state, strict=True))
            fit = [(x, q) for x, q in texts if all(x[i] == v for i, v in stands.items())]
            total = sum(q for _, q in fit)
            if total == 0:
                continue  # off the support: no conditional is defined, and none is needed
            marginals = []
            for i in places:
                law_i: dict[int, float] = {}
                for x, q in fit:
                    law_i[x[i]] = law_i.get(x[i], 0.0) + q / total
                marginals.append(law_i)
            for chosen in itertools.product(*marginals):
                q = float(np.prod([m[v] for m, v in zip(marginals, chosen, strict=True)]))
                key = (*state, *chosen)
                more[key] = more.get(key, 0.0) + p * q
        done += places
        made = more
    order = np.argsort(done)
    return {tuple(np.array(state)[order].tolist()): p for state, p in made.items()}


@pytest.mark.parametrize("sets", [[[0, 1, 2, 3]], [[2], [0, 3], [1]], [[1, 3], [0, 2]]])
@pytest.mark.parametrize("seed", [0, 1])
def test_filling_and_its_divergence(seed: int, sets) -> None:
    """The chain rule of the paper: the divergence of filling is L_T, to the last digit."""
    law = ragged(seed)
    naive = filled_naively(law, sets)
    made = law.filling(sets)
    np.testing.assert_allclose(made, [naive[tuple(x)] for x in law.support.tolist()])
    p = law.probability
    assert law.divergence(sets) == pytest.approx(float(np.sum(p * np.log2(p / made))))
    assert law.bound(sets) == pytest.approx(law.divergence(sets), abs=1e-12)


def test_the_best_partitions_are_the_best() -> None:
    law = ragged(2)
    assigned = list(itertools.product(range(4), repeat=4))
    for steps, (best, sets) in enumerate(law.best_bounds(), 1):
        every = []
        for turn in assigned:
            if set(turn) == set(range(steps)):
                every.append(
                    law.bound([[i for i in range(4) if turn[i] == t] for t in range(steps)])
                )
        assert best == pytest.approx(min(every))
        assert law.bound(sets) == pytest.approx(best) and len(sets) == steps


def test_two_bits_by_hand() -> None:
    """KL(joint || product) = 0.12451 bits = 0.08630 nats; one at a time costs nothing."""
    assert BITS.correlation() == pytest.approx(0.12451, abs=5e-6)
    assert BITS.correlation() * np.log(2) == pytest.approx(0.08630, abs=5e-6)
    np.testing.assert_allclose(BITS.filling([[0, 1]]), [0.3, 0.2, 0.3, 0.2])
    assert BITS.bound([[1], [0]]) == pytest.approx(0, abs=1e-12)
    assert BITS.correlation([1], given=[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("texts", "probability", "fault"),
    [
        ([[0], [0]], [0.5, 0.5], "listed twice"),
        ([[0], [1]], [0.5, 0.4], "sums to"),
        ([[0], [1]], [1.0, 0.0], "positive"),
        ([[0], [1]], [1.0], "give"),
    ],
)
def test_what_is_no_law(texts, probability, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        FiniteLaw(np.array(texts), np.array(probability))


@pytest.mark.parametrize("sets", [[[0]], [[0, 1], [1]], [[0, 1], []], [[0], [2]]])
def test_sets_must_part_the_places(sets) -> None:
    with pytest.raises(ValueError, match="belongs to one set"):
        BITS.bound(sets)
