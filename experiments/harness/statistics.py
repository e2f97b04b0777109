"""Statistics over independent units, and rows by all that tells them apart.

Units are prompts, problems or seeds: whatever was drawn independently. Where several arrays tell
of the same units they are resampled together, so that what is common to a unit cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 2000
FEWEST = 3  # units; fewer say nothing of what others would come to


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % bootstrap interval over independent units.

    Attributes:
      value: of all units.
      low, high: the interval; None where there were fewer than `FEWEST` units.
      unit: what it is counted in, "x" or "points"; "" for a bare number.
    """

    value: float
    low: float | None
    high: float | None
    unit: str = ""

    def __str__(self) -> str:
        unit = self.unit if self.unit in ("", "x") else f" {self.unit}"
        sign = "" if self.unit == "x" else "+"
        if self.low is None:
            return f"{self.value:{sign}.3g}{unit} (too few units)"
        return f"{self.value:{sign}.3g}{unit} ({self.low:{sign}.3g}..{self.high:{sign}.3g})"


def bootstrap(
    statistic: Callable[..., float],
    *units: Any,
    unit: str = "",
    draws: int = DRAWS,
    share: float = 95.0,
) -> Estimate:
    """`statistic(*units)` with its percentile interval, the units resampled together.

    Args:
      units: arrays [N, ...] about the same N independent units, in the same order.
      unit: what the statistic is counted in.
      share: of the draws that lie in the interval, in percent; more where the best of several
        statistics is asked for.
    Raises:
      ValueError: without arrays, or where their N differ.
    """
    arrays = [np.asarray(array, np.float64) for array in units]
    counts = {len(array) for array in arrays}
    if len(counts) != 1:
        raise ValueError(f"units: arrays of {sorted(counts)} units; one row a unit in each")
    (count,) = counts
    value = float(statistic(*arrays))
    if count < FEWEST:
        return Estimate(value, None, None, unit)
    rows = np.random.default_rng(0).integers(count, size=(draws, count))
    found = [statistic(*(array[row] for array in arrays)) for row in rows]
    low, high = (float(x) for x in np.percentile(found, [50 - share / 2, 50 + share / 2]))
    return Estimate(value, low, high, unit)


def difference(one: Any, other: Any, unit: str) -> Estimate:
    """The mean of `one` above that of `other`, unit by unit."""
    return bootstrap(lambda gap: gap.mean(), np.subtract(one, other), unit=unit)


def points(one: Any, other: Any) -> Estimate:
    """The same in points of a hundred, of shares or of right and wrong."""
    return difference(100 * np.asarray(one, float), 100 * np.asarray(other, float), "points")


def paired(one: Floats, other: Floats, draws: int = DRAWS) -> tuple[float, float, float]:
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
    from scipy.stats import rankdata  # half a second of every start, for which few have a use

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
