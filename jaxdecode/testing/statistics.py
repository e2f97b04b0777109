"""Goodness of fit: do samples follow a law that is known exactly?

Pearson's statistic over n samples, sum (observed - n p)^2 / (n p), is compared with the
chi-square law. A test that accepts says nothing unless it would have rejected a wrong law:
`power` gives the probability of that beforehand, from the noncentral chi-square law with
noncentrality n * sum (alternative - p)^2 / p, and `rejects` is for planting wrong rules.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, cast

import numpy as np
from jax.scipy.special import gammaincc
from jax.typing import ArrayLike

ALPHA = 1e-4
"""Probability that a true law is rejected; seeds are fixed, so that it happens once or never."""

POOL = 5.0
"""Cells that expect fewer samples than this are counted as one."""

Cells = Mapping[Any, float]


def tally(samples: ArrayLike | Iterable[Hashable]) -> Counter[Any]:
    """How often each cell occurs: integers, rows of an array as tuples, or what is given."""
    if not hasattr(samples, "__array__"):
        return Counter(cast(Iterable[Hashable], samples))
    array = np.asarray(samples)
    if array.ndim == 1:
        return Counter(array.tolist())
    cells, counts = np.unique(array, axis=0, return_counts=True)
    return Counter(dict(zip(map(tuple, cells.tolist()), counts.tolist(), strict=True)))


def completions(tokens: ArrayLike, length: ArrayLike) -> list[tuple[int, ...]]:
    """The rows of a result as tuples of their own length."""
    pairs = zip(np.asarray(tokens).tolist(), np.asarray(length).tolist(), strict=True)
    return [tuple(row[:n]) for row, n in pairs]


def law(probs: Cells | np.ndarray) -> dict[Hashable, float]:
    """Probabilities by cell; an array is indexed by token, or by tuple of tokens."""
    if isinstance(probs, Mapping):
        return dict(probs)
    array = np.asarray(probs, np.float64)
    if array.ndim == 1:
        return dict(enumerate(array.tolist()))
    return {index: float(p) for index, p in np.ndenumerate(array)}


def p_value(samples: ArrayLike | Iterable[Hashable], probs: Cells | np.ndarray) -> float:
    """Probability of a fit this bad if the law is true; 0 if something impossible occurred."""
    expected, counts = law(probs), tally(samples)
    if abs(sum(expected.values()) - 1) > 1e-4:
        raise ValueError(f"probs sum to {sum(expected.values())}, not to 1")
    if any(expected.get(cell, 0.0) <= 0 for cell in counts):
        return 0.0
    total = sum(counts.values())
    groups = _pool(expected, total)
    observed = np.array([sum(counts[cell] for cell in group) for group in groups], np.float64)
    mean = np.array([total * sum(expected[cell] for cell in group) for group in groups])
    statistic = float(np.sum((observed - mean) ** 2 / mean))
    return _tail(statistic, len(groups) - 1)


def power(
    count: int, probs: Cells | np.ndarray, alternative: Cells | np.ndarray, alpha: float = ALPHA
) -> float:
    """Probability that `count` samples of `alternative` are rejected as samples of `probs`."""
    expected, other = law(probs), law(alternative)
    if any(expected.get(cell, 0.0) <= 0 < p for cell, p in other.items()):
        missed = 1 - sum(p for cell, p in other.items() if expected.get(cell, 0.0) <= 0)
        return 1 - missed**count
    groups = _pool(expected, count)
    p = np.array([sum(expected[cell] for cell in group) for group in groups])
    q = np.array([sum(other.get(cell, 0.0) for cell in group) for group in groups])
    half = count * float(np.sum((q - p) ** 2 / p)) / 2
    freedom = len(groups) - 1
    critical = _quantile(alpha, freedom)
    # A noncentral chi-square is a Poisson mixture of central ones.
    spread = 12 * np.sqrt(half) + 30
    terms = np.arange(max(0, int(half - spread)), int(half + spread))
    factorial = np.array([math.lgamma(term + 1) for term in terms])
    poisson = np.exp(terms * np.log(max(half, 1e-300)) - half - factorial)
    tails = np.asarray(gammaincc(freedom / 2 + terms, critical / 2))
    return float(min(1.0, np.sum(poisson * tails)))


def rejects(
    samples: ArrayLike | Iterable[Hashable], probs: Cells | np.ndarray, alpha: float = ALPHA
) -> bool:
    """Whether the samples refute the law."""
    return p_value(samples, probs) < alpha


def assert_distribution(
    samples: ArrayLike | Iterable[Hashable],
    probs: Cells | np.ndarray,
    alpha: float = ALPHA,
    family: int = 1,
) -> None:
    """Raise AssertionError if the samples refute the law.

    Args:
      family: how many such tests are made together; the level is shared among them.
    """
    value = p_value(samples, probs)
    if value < bonferroni(alpha, family):
        distance = total_variation(samples, probs)
        raise AssertionError(f"the law is refuted: p = {value:.3g}, total variation {distance:.4f}")


def bonferroni(alpha: float, family: int) -> float:
    """The level of each of `family` tests that together have level `alpha`."""
    return alpha / family


def total_variation(samples: ArrayLike | Iterable[Hashable], probs: Cells | np.ndarray) -> float:
    """Half the L1 distance between frequencies and law."""
    expected, counts = law(probs), tally(samples)
    total = sum(counts.values())
    cells = expected.keys() | counts.keys()
    return sum(abs(counts[cell] / total - expected.get(cell, 0.0)) for cell in cells) / 2


def _pool(expected: dict[Hashable, float], count: int) -> list[list[Hashable]]:
    """Cells that can occur, each alone; the rare ones together, with the next if still rare."""
    cells = sorted((cell for cell, p in expected.items() if p > 0), key=expected.__getitem__)
    rare: list[Hashable] = []
    while cells and (
        count * expected[cells[0]] < POOL
        or (rare and count * sum(expected[cell] for cell in rare) < POOL)
    ):
        rare.append(cells.pop(0))
    return [[cell] for cell in cells] + ([rare] if rare else [])


def _tail(statistic: float, freedom: int) -> float:
    """P(chi-square > statistic); a law of one cell has nothing to refute."""
    return 1.0 if freedom == 0 else float(gammaincc(freedom / 2, statistic / 2))


def _quantile(alpha: float, freedom: int) -> float:
    """The statistic that a true law exceeds with probability alpha."""
    low, high = 0.0, 20.0 * freedom + 200.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle, freedom) > alpha else (low, middle)
    return high
