"""Panels: grouping of answers, subsets, accuracies and statistics against plain loops."""

from itertools import combinations

import numpy as np
import pytest
from jax.tree_util import Partial

from experiments.harness.response_pool import ResponsePool
from experiments.harness.statistics import correlation, paired, separation
from jaxdecode.voting import best_of, borda, majority

RNG = np.random.default_rng(3)


def question(answers, reference="7", greedy: str | None = "7", level=1) -> dict:
    count = len(answers)
    return {
        "answers": answers,
        "reference": reference,
        "greedy": greedy,
        "level": level,
        "length": [3] * count,
        "scores": {"kl": RNG.normal(size=count).tolist()},
    }


POOL = ResponsePool.of(
    [
        question(["7", None, "8", "7", "9", "8"]),
        question([None, None, "1", None, "7", "1"], greedy=None),
        question(["2", "3", "2", "3", "2", "3"], greedy="2"),
        question([None] * 6),
    ]
)


def test_answers_are_numbered_by_first_appearance() -> None:
    expected = [[0, -1, 1, 0, 2, 1], [-1, -1, 0, -1, 1, 0], [0, 1, 0, 1, 0, 1], [-1] * 6]
    np.testing.assert_array_equal(POOL.answers, expected)
    np.testing.assert_array_equal(POOL.right.sum(1), [2, 1, 0, 0])
    np.testing.assert_array_equal(POOL.greedy, [True, False, False, True])


def test_a_score_that_was_not_a_number_is_nan() -> None:
    """JSON has none, so that a journal stores null."""
    faulty = question(["7", "8"]) | {"scores": {"kl": [None, 0.5]}}
    np.testing.assert_array_equal(np.isnan(ResponsePool.of([faulty]).scores["kl"]), [[True, False]])


def test_subsets_are_of_distinct_samples() -> None:
    drawn = POOL.subsets(4, 50, seed=1)
    assert drawn.shape == (50, 4, 4)
    assert all(len(set(row)) == 4 for row in drawn.reshape(-1, 4).tolist())
    assert len({tuple(row) for row in drawn[:, 0].tolist()}) > 20
    np.testing.assert_array_equal(drawn, POOL.subsets(4, 50, seed=1))
    assert (drawn != POOL.subsets(4, 50, seed=2)).any()
    np.testing.assert_array_equal(
        np.sort(POOL.subsets(6, 9, 1)), np.arange(6) + np.zeros((9, 4, 1))
    )


@pytest.mark.parametrize("rule", [Partial(majority), Partial(borda, power=0.7), Partial(best_of)])
def test_accuracy_is_the_mean_over_subsets(rule) -> None:
    drawn = POOL.subsets(3, 7, seed=0)
    score = POOL.scores["kl"]
    expected = np.zeros(4)
    for subset in drawn:
        for q, row in enumerate(subset):
            index = row[int(rule(POOL.answers[q, row], score[q, row]))]
            expected[q] += POOL.right[q, index] / len(drawn)
    np.testing.assert_allclose(POOL.accuracy(rule, score, drawn), expected)
    assert 0 < expected.sum() < 4


def test_oracle_is_the_mean_over_subsets() -> None:
    every = np.array(list(combinations(range(6), 2)), np.int32)[:, None].repeat(4, axis=1)
    # 2 of 6 are right: 1 - C(4, 2) / C(6, 2); 1 of 6: 2 / 6.
    np.testing.assert_allclose(POOL.oracle(every), [9 / 15, 1 / 3, 0, 0])


def test_an_interval_holds_the_mean_and_narrows() -> None:
    one = RNG.random(400)
    mean, low, high = paired(one, one - 0.1 + 0.2 * RNG.normal(size=400))
    assert low < mean < high
    np.testing.assert_allclose(mean, 10, atol=3)
    few = paired(one[:40], (one - 0.1 + 0.2 * RNG.normal(size=400))[:40])
    assert few[2] - few[1] > high - low
    assert paired(one, one) == (0, 0, 0)


def test_correlation() -> None:
    x, noise = RNG.normal(size=(2, 50))
    y = np.where(np.arange(50) == 3, np.nan, x + noise)
    sound = np.arange(50) != 3
    np.testing.assert_allclose(correlation(x, y), np.corrcoef(x[sound], y[sound])[0, 1])
    assert correlation(x, np.ones(50)) == 0


def test_separation_counts_pairs() -> None:
    score = np.array([1.0, 2.0, 2.0, 3.0, np.nan, 0.0])
    right = np.array([False, True, False, True, True, False])
    pairs = [(g > b) + (g == b) / 2 for g in (2.0, 3.0) for b in (1.0, 2.0, 0.0)]
    np.testing.assert_allclose(separation(score, right), np.mean(pairs))
    assert np.isnan(separation(score, np.ones(6, bool)))
