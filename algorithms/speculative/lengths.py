"""What draft lengths cost: accounts without a clock, hindsight, and a model with known answers.

N tokens emitted in N_t passes of the target, N_x of the draft tokens not kept, the rejected one
among them. A round emits one token more than it accepts, so N - N_t + N_x were drafted and

    time = t_draft (N + N_x) + (t_target - t_draft) N_t

for any two times of a pass: rates of discarding and of verifying say all there is to say about
a rule for draft lengths (Huang et al. 2024, arXiv:2405.19715). Plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Work:
    """Counts of a run, or their expectations; see the module."""

    emitted: float
    passes: float
    discarded: float

    @property
    def drafted(self) -> float:
        """Tokens drafted: the accepted, all that no pass gave of itself, and the discarded."""
        return self.emitted - self.passes + self.discarded

    @property
    def discard(self) -> float:
        """Discarded draft tokens for each emitted token."""
        return self.discarded / self.emitted

    @property
    def verification(self) -> float:
        """Passes of the target for each emitted token."""
        return self.passes / self.emitted

    def time(self, draft: float, target: float) -> float:
        """Of a run whose passes take so long."""
        return draft * self.drafted + target * self.passes

    def speed_up(self, draft: float, target: float) -> float:
        """Over one pass of the target a token."""
        return 1 / (
            self.discard * draft / target
            + self.verification * (1 - draft / target)
            + draft / target
        )


def length_of(work: Work) -> float:
    """K of a run whose drafts all had K tokens."""
    return (1 - work.verification + work.discard) / work.verification


def replay(
    matches: Sequence[bool] | np.ndarray, length: int | None, most: int | None = None
) -> Work:
    """Greedy decoding with drafts of a length, or of the best for each round.

    Args:
      matches: for each token of the target's text, whether the draft model behind the text up
        to there would have drafted it.
      length: of every draft; None ends each where the first mismatch will be, which only
        hindsight can and which discards nothing.
      most: the longest draft where there is no `length`.
    """
    place, passes, discarded = 0, 0, 0
    longest = most if length is None else length
    while place < len(matches):
        run = 0
        while (longest is None or run < longest) and place + run < len(matches):
            if not matches[place + run]:
                break
            run += 1
        discarded += 0 if length is None else length - run
        place, passes = place + run + 1, passes + 1
    # The last token of the last round may lie past the text.
    return Work(emitted=place, passes=passes, discarded=discarded)


@dataclass(frozen=True)
class Renewal:
    """Acceptances drawn independently, each known as soon as its token was drafted.

    Attributes:
      levels, chances: acceptance probabilities, and how often each occurs.
      draft, target: times of a pass.
    """

    levels: tuple[float, ...]
    chances: tuple[float, ...]
    draft: float = 1.0
    target: float = 10.0

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.chances) or abs(sum(self.chances) - 1) > 1e-9:
            raise ValueError(f"chances={self.chances}: one for each level, 1 in all")
        if not all(0 <= level < 1 for level in self.levels):
            raise ValueError(f"levels={self.levels} must lie in [0, 1): a draft would never end")

    @property
    def mean(self) -> float:
        """The chance that a drafted token is accepted, averaged over the levels."""
        return float(np.dot(self.levels, self.chances))

    def round(self, ends: Callable[[float, int], bool]) -> Work:
        """Expectations of one round whose draft ends once `ends`(P(all held), drafted)."""

        @cache
        def onwards(counts: tuple[int, ...]) -> tuple[float, float]:
            """Expected accepted and drafted tokens still to come."""
            held = float(np.prod(np.power(self.levels, counts)))
            if ends(held, sum(counts)):
                return 0.0, 0.0
            accepted, drafted = held * self.mean, 1.0
            for index, chance in enumerate(self.chances):
                more = onwards((*counts[:index], counts[index] + 1, *counts[index + 1 :]))
                accepted, drafted = accepted + chance * more[0], drafted + chance * more[1]
            return accepted, drafted

        accepted, drafted = onwards((0,) * len(self.levels))
        return Work(emitted=1 + accepted, passes=1, discarded=drafted - accepted)

    def fixed(self, length: int) -> Work:
        return self.round(lambda _, drafted: drafted >= length)

    def threshold(self, h: float) -> Work:
        """Stops once P(some rejection) exceeds h, after one token at least."""
        return self.round(lambda held, drafted: drafted > 0 and 1 - held > h)

    def best(self) -> tuple[float, Work]:
        """The best threshold of all rules, and what it comes to.

        One more token is worth held * mean tokens; at rate r of tokens a unit of time it has to
        be worth r * draft. The rate is raised until it is that of its own rule.
        """
        rate = 0.0
        while True:
            h = 1 - rate * self.draft / self.mean
            work = self.threshold(min(h, 1 - 1e-9) if rate else 0.0)
            higher = work.emitted / work.time(self.draft, self.target)
            if higher <= rate * (1 + 1e-12):
                return h, work
            rate = higher

    def hindsight(self) -> Work:
        """Drafts end right before the first rejection."""
        return Work(emitted=1 / (1 - self.mean), passes=1, discarded=0)
