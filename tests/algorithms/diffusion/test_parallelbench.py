"""ParallelBench's known answers: correlations, partitions, accuracies, the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from algorithms.diffusion.parallelbench import (
    correlation,
    factor_accuracy,
    greedy_accuracy,
    law,
    oracle,
    sampled_accuracy,
    step_correlation,
    threshold_accuracy,
)

# n = 2..6, in bits
CORRELATION = {
    ("replace_random", True): (1.0000, 1.1699, 1.2451, 1.2877, 1.3152),
    ("shuffle", True): (1.0000, 2.1699, 3.4150, 4.7027, 6.0179),
    ("shuffle", False): (0, 2.2439, 3.4596, 4.7138, 6.0199),
    ("insert_random", True): (1.8366, 2.6226, 3.3858, 4.1366, 4.8800),
    ("remove_random", True): (0, 0.2516, 0.6226, 1.0638, 1.5517),
}
IN_ONE_STEP = {
    ("replace_random", True): (0.5, 0.4444, 0.4219, 0.4096, 0.4019),
    ("shuffle", True): (0.5, 0.2222, 0.09375, 0.0384, 0.01543),
    ("shuffle", False): (1, 0.2240, 0.0919, 0.0381, 0.0154),
    ("insert_random", True): (0.2963, 0.1875, 0.1229, 0.0823, 0.0560),
    ("remove_random", True): (1, 0.8889, 0.75, 0.6144, 0.4938),
}
BEST = {
    ("replace_random", 3): (1.1699, 0.2516, 0),
    ("replace_random", 4): (1.2451, 0.4338, 0.1226, 0),
    ("shuffle", 3): (2.1699, 0.5850, 0),
    ("shuffle", 4): (3.4150, 1.4150, 0.4150, 0),
    ("insert_random", 4): (3.3858, 0.4200, 0, 0, 0),
    ("remove_random", 4): (0.6226, 0, 0),
}


@pytest.mark.parametrize(("operation", "identity"), CORRELATION)
def test_correlations_and_validity_of_one_step(operation, identity: bool) -> None:
    for n, bits, valid in zip(
        range(2, 7),
        CORRELATION[operation, identity],
        IN_ONE_STEP[operation, identity],
        strict=True,
    ):
        right = law(operation, n, identity)
        assert right.correlation() == pytest.approx(bits, abs=5e-5)
        assert right.filling([range(right.length)]).sum() == pytest.approx(valid, abs=5e-5)


def test_closed_forms_are_the_enumerated_ones() -> None:
    assert correlation("replace_random", 10) == pytest.approx(1.3680, abs=5e-5)
    assert correlation("shuffle", 10) == pytest.approx(11.4282, abs=5e-5)
    assert correlation("copy", 10) == law("copy", 4).correlation() == 0
    assert 32 - np.log2(len(law("latin_square", 4).support)) == pytest.approx(22.83, abs=5e-3)
    for operation in ("replace_random", "shuffle"):
        for n in range(2, 6):
            right = law(operation, n)
            assert correlation(operation, n) == pytest.approx(right.correlation())
            for m in range(1, n + 1):
                for k in range(1, m + 1):
                    bits = right.correlation(range(n - m, n - m + k), range(n - m))
                    assert step_correlation(operation, n, m, k) == pytest.approx(bits)


@pytest.mark.parametrize(("operation", "n"), BEST)
def test_the_least_of_every_number_of_steps(operation, n: int) -> None:
    found = law(operation, n).best_bounds()
    assert [bits for bits, _ in found] == pytest.approx(BEST[operation, n], abs=5e-5)
    if operation == "insert_random":
        assert {frozenset(places) for places in found[1][1]} == {
            frozenset({1, 3}),
            frozenset({0, 2, 4}),
        }


def test_accuracy_of_steps_of_k() -> None:
    """Also the sum over what the law's own filling makes of its texts."""
    shuffled = [sampled_accuracy("shuffle", 6, k) for k in (1, 2, 3, 6)]
    assert shuffled == pytest.approx([1, 0.3125, 0.1235, 0.0154], abs=5e-5)
    assert sampled_accuracy("shuffle", 4, 2) == pytest.approx(0.375)
    replaced = [sampled_accuracy("replace_random", 6, k) for k in (1, 2, 3, 6)]
    assert replaced == pytest.approx([1, 0.7335, 0.6044, 0.4019], abs=5e-5)
    for operation in ("replace_random", "shuffle", "copy"):
        for n in (3, 4, 5):
            for k in range(1, n + 1):
                sets = [range(i, min(i + k, n)) for i in range(0, n, k)]
                valid = law(operation, n).filling(sets).sum()
                assert sampled_accuracy(operation, n, k) == pytest.approx(valid)


def test_accuracy_of_the_greedy() -> None:
    assert [greedy_accuracy("replace_random", 8, k) for k in (1, 2, 3, 4, 8)] == [1, 0.5, 0.5, 0, 0]
    assert [greedy_accuracy("replace_random", 7, k) for k in (2, 3, 4)] == [1, 1, 0]
    assert threshold_accuracy("replace_random", 5, 0.8) == 1
    assert threshold_accuracy("replace_random", 5, 0.79) == 0
    assert threshold_accuracy("replace_random", 5, 0.8, strict=False) == 0
    shuffled = [threshold_accuracy("shuffle", 5, at) for at in (0.51, 0.4, 0.1)]
    assert shuffled == pytest.approx([1, 0.5, 0.0384])
    assert threshold_accuracy("copy", 5, 0.0) == 1
    for n in range(2, 20):
        assert factor_accuracy(n) == (2, 1.0)
    assert factor_accuracy(8, 0.5)[0] > 2


def test_the_oracle_is_above_every_policy() -> None:
    rng = np.random.default_rng(0)
    speed = rng.integers(1, 8, (6, 40)).astype(float)
    right = rng.random(speed.shape) < 1.2 / speed
    mean, accuracy = oracle(speed, right)
    assert (np.diff(mean) >= 0).all() and (np.diff(accuracy) < 0).all()
    assert accuracy[0] == right.any(axis=0).mean()
    for policy in range(len(speed)):
        at_least = mean[accuracy >= right[policy].mean() - 1e-12]
        assert at_least.max() >= speed[policy].mean()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="m=3, k=4"):
        step_correlation("shuffle", 5, 3, 4)
    with pytest.raises(ValueError, match="no law"):
        law("sort", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="settings, questions"):
        oracle(np.ones(3), np.ones(3, bool))
