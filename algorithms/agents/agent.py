"""What an agent is asked, what it answers, what is said of an answer: plain text and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

INVALID = -math.inf


@dataclass(frozen=True)
class Verdict:
    """A verifier's word on one answer: a score, and what it has to say where it says more."""

    score: float
    critique: str = ""


@dataclass(frozen=True)
class Attempt:
    """An answer that was looked at.

    Attributes:
      text: the answer.
      score: as the verifier gave it; -inf where it gave none, which makes the answer invalid.
      critique: the verifier's.
      error: why the answer is invalid, else empty.
    """

    text: str
    score: float
    critique: str = ""
    error: str = ""

    @property
    def valid(self) -> bool:
        """Whether a verifier could score it."""
        return self.score > INVALID


@dataclass(frozen=True)
class Review:
    """What an agent is asked: a prompt, and earlier answers to do better than."""

    prompt: str
    best: Attempt | None = None
    worst: Attempt | None = None


@dataclass(frozen=True)
class Reply:
    """An agent's answer and what it cost.

    Attributes:
      read, written: tokens of the prompt with all feedback, and of the answer.
    """

    text: str
    read: int = 0
    written: int = 0


@runtime_checkable
class Agent(Protocol):
    """A policy that can only be sampled."""

    def __call__(
        self, reviews: Sequence[Review], ids: Sequence[int], samples: int, first: int
    ) -> Sequence[Sequence[Reply]]:
        """`samples` independent answers to each review.

        The draws of an answer depend on the review, its id and the number of the sample, which
        counts from `first`, and not on what else is asked in the same call.
        """
        ...


@runtime_checkable
class Verifier(Protocol):
    """Scores an answer, higher is better; what it raises makes the answer invalid."""

    def __call__(self, prompt: str, text: str) -> Verdict: ...
