"""What a loop of asking and verifying came to: the answer, its history, its cost."""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.agents.agent import Attempt, Review


@dataclass(frozen=True)
class Round:
    """One round of one prompt: what was asked, what came, the incumbent after it."""

    review: Review
    attempts: tuple[Attempt, ...]
    best: Attempt | None
    accepted: bool


@dataclass(frozen=True)
class Spent:
    """Calls of agent and verifier, tokens read (feedback included) and written."""

    agent_calls: int = 0
    verifier_calls: int = 0
    read: int = 0
    written: int = 0


@dataclass(frozen=True)
class Outcome:
    """A prompt's answer and its history.

    Attributes:
      best: the incumbent at the end; None where every answer was invalid.
      rounds: the trace, errors of the verifier included.
      reached: whether a score reached the goal.
    """

    best: Attempt | None
    rounds: tuple[Round, ...]
    spent: Spent
    reached: bool
