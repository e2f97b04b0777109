"""Statistics over independent units, and rows by all that tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


def paired(one: Floats, other: Floats, draws: int = 2000) -> tuple[float, float, float]:
    """Mean difference over questions and its 95 % bootstrap interval, in percent."""
    gap = 100 * (one - other)
    rows = np.random.default_rng(0).integers(len(gap), size=(draws, len(gap)))
    low, high = np.percentile(gap[rows].mean(axis=1), [2.5, 97.5])
    return float(gap.mean()), float(low), float(high)


def correlation(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Pearson's, over the entries where both are finite; 0 where one is constant."""
    sound = np.isfinite(x) & np.isfinite(y)
    x, y = (z[sound] - z[sound].mean() for z in (np.asarray(x, float), np.asarray(y, float)))
    spread = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / spread) if spread > 0 else 0.0


def separation(score: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """The chance that a right response scores above a wrong one (AUC), ties by halves.

    NaN where all are right or all are wrong.
    """
    sound = np.isfinite(score)
    score, right = score[sound], right[sound]
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return float("nan")
    return float((rankdata(score)[right].sum() - good * (good + 1) / 2) / (good * bad))


def keyed(
    rows: Iterable[Mapping[str, Any]], *columns: str, value: str | None = None
) -> dict[Any, Any]:
    """A row, or its `value`, under its `columns`: one of them alone, several as a tuple.

    Raises:
      ValueError: two rows share a key, so that the last would silently stand for both.
    """
    found: dict[Any, Any] = {}
    for row in rows:
        key = row[columns[0]] if len(columns) == 1 else tuple(row[column] for column in columns)
        if key in found:
            raise ValueError(
                f"rows: two have {', '.join(columns)} = {key!r}; name what else tells them apart, "
                "or choose among them first"
            )
        found[key] = row if value is None else row[value]
    return found
