"""A claim of a paper, and the verdict that statistics over independent units come to."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from experiments.harness.statistics import Estimate


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, what the paper measured, what was measured here.

    Attributes:
      claim, paper, measured: the sentence, the paper's number, ours.
      holds: decided by a rule fixed before measuring; None where this setting cannot tell.
      interval: 95 % of the statistic that the rule is about, over independent units.
      mark: what that statistic has to pass.
      sanity: a theorem or an identity: it can only show a fault of ours, and is not counted.
      headline: the one that stands for the paper; the first one if none is marked.
    """

    VERDICTS: ClassVar = ("holds", "fails", "not resolved", "not measurable here", "sanity")

    claim: str
    paper: str
    measured: str
    holds: bool | None
    interval: tuple[float, float] | None = None
    mark: float | None = None
    sanity: bool = False
    headline: bool = False

    def __post_init__(self) -> None:
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"{self.claim!r}: interval={self.interval} does not rise")

    @classmethod
    def tested(
        cls, claim: str, paper: str, *bars: Bar, measured: str = "", headline: bool = False
    ) -> Claim:
        """A claim that holds where every bar is passed.

        The weakest gives the interval: one that is failed, else one that is not resolved,
        else the one passed most narrowly. A statistic of too few units tells nothing.

        Args:
          measured: told before the statistics, which speak for themselves.
        Raises:
          ValueError: without a bar.
        """
        if not bars:
            raise ValueError(f"{claim!r}: give at least one, above(...) or below(...)")
        told = "; ".join(str(bar.estimate) for bar in bars)
        measured = f"{measured}: {told}" if measured else told
        if any(bar.estimate.low is None for bar in bars):
            return cls(claim, paper, measured, None, headline=headline)
        weakest = min(bars, key=lambda bar: bar.margins)
        low, high = weakest.estimate.low, weakest.estimate.high
        assert low is not None and high is not None
        passed = all(bar.passed for bar in bars)
        return cls(claim, paper, measured, passed, (low, high), weakest.mark, headline=headline)

    def unless(self, vain: bool, why: str) -> Claim:
        """The same claim, or one that is not measurable here, as the setting cannot show it."""
        if not vain:
            return self
        told = f"{self.measured}; {why}"
        return dataclasses.replace(self, measured=told, holds=None, interval=None, mark=None)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`; an interval that straddles the mark resolves nothing."""
        if self.holds is None:
            return "not measurable here"
        if self.sanity and self.holds:
            return "sanity"
        if self.interval is not None and self.mark is not None:
            low, high = self.interval
            if low <= self.mark <= high:
                return "not resolved"
        return "holds" if self.holds else "fails"

    def fields(self) -> dict[str, Any]:
        """For JSON: what differs from the defaults."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


class Bar(NamedTuple):
    """A statistic, and the side of a mark on which it has to lie."""

    estimate: Estimate
    mark: float
    over: bool

    @property
    def passed(self) -> bool:
        value = self.estimate.value
        return value > self.mark if self.over else value < self.mark

    @property
    def margins(self) -> tuple[float, float]:
        """By how much the interval's far end, at most 0, and its near end pass the mark."""
        low, high = self.estimate.low, self.estimate.high
        assert low is not None and high is not None
        near, far = (low, high) if self.over else (-high, -low)
        mark = self.mark if self.over else -self.mark
        return min(far - mark, 0.0), near - mark


def above(estimate: Estimate, mark: str) -> Bar:
    """That a statistic is above a mark, "8x" or "0 points".

    Raises:
      ValueError: for a mark of another unit than the statistic's.
    """
    return Bar(estimate, _number(estimate, mark), True)


def below(estimate: Estimate, mark: str) -> Bar:
    """That a statistic is below a mark; see `above`."""
    return Bar(estimate, _number(estimate, mark), False)


def _number(estimate: Estimate, mark: str) -> float:
    found = re.fullmatch(r"([-+]?[\d.]+)\s*(.*)", mark)
    if found is None:
        raise ValueError(f"mark={mark!r}: a number and its unit were expected, as in '8x'")
    number, unit = found.groups()
    if unit != estimate.unit:
        raise ValueError(
            f"mark={mark!r} is in {unit or 'no unit'!r}, the statistic {estimate} in "
            f"{estimate.unit or 'no unit'!r}; state both in one unit"
        )
    return float(number)
