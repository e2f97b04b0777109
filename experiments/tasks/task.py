"""A task: an endless supply of prompts with reference completions and an exact score.

Every task is deterministic given a numpy ``Generator`` and keeps its train, validation and test
prompts apart: a prompt's split is a function of its text alone, so no two settings of a task
(difficulty, length, seed) can ever place one prompt on both sides.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_HELD_OUT = 0.05  # the share of prompts in each of validation and test


@dataclass(frozen=True)
class Example:
    """One problem: a model continues ``prompt``; ``target`` is a reference completion.

    ``meta`` carries what a table or a plot groups by (difficulty, topic, answer).
    """

    prompt: str
    target: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """A source of examples that knows how to score any completion of its prompts."""

    @property
    def name(self) -> str:
        """A short name for tables and file names."""
        ...

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``count`` independent examples whose prompts all belong to ``split``."""
        ...

    def verify(self, prompt: str, completion: str) -> float:
        """The score of a completion: 0 or 1 where an answer is right or wrong, else a reward."""
        ...

    def extract(self, completion: str) -> str | None:
        """The completion's final answer in canonical form, or None where it states none."""
        ...


def split_of(key: str) -> Split:
    """The split a prompt (or a file name) belongs to: 90 % train, 5 % validation, 5 % test."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2.0**64
    if share < _HELD_OUT:
        return "test"
    return "validation" if share < 2 * _HELD_OUT else "train"


def distinct(
    pool: Sequence[Example], rng: np.random.Generator, count: int, split: Split
) -> list[Example]:
    """``count`` different examples of a split that has no more than ``pool``, in random order."""
    if count > len(pool):
        raise ValueError(f"count is {count}, but split {split!r} has {len(pool)} problems")
    return [pool[index] for index in rng.permutation(len(pool))[:count]]


def check_split(split: str) -> None:
    """Raises ValueError unless ``split`` is one of the three names."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}: pass one of {', '.join(SPLITS)}")
