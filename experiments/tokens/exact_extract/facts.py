"""Passages of facts, questions on them, and two ways of training on passages without questions.

    passage    c 4 12 . a 7 . h 0 3 . b 15 .
    question   passage = h            answer   0 3

In pretraining a run of one or two tokens is hidden anywhere and asked for by the token before it
(`Hidden`): in some passages a fact stands twice, and only there can it be known. Recurring spans
(`Recurring`; Ram et al. 2021, arXiv 2101.00438) are hidden where they stand a second time: what is
asked for is always a part of the passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, split_of

KEYS, VALUES = "abcdefghij", tuple(map(str, range(18)))
HIDDEN = "_"
Fact = tuple[str, list[str]]


def draw(rng: np.random.Generator, twice: bool) -> tuple[list[Fact], int]:
    """Four or five facts of different keys in random order; one of them a second time, and where
    that stands, or -1."""
    keys = rng.choice(list(KEYS), int(rng.integers(4, 6)), replace=False)
    facts: list[Fact] = [
        (str(k), [str(v) for v in rng.choice(VALUES, rng.integers(1, 3))]) for k in keys
    ]
    if not twice:
        return facts, -1
    again = facts[int(rng.integers(len(facts)))]
    place = int(rng.integers(len(facts) + 1))
    facts.insert(place, again)
    return facts, place


def words(facts: Sequence[Fact]) -> list[str]:
    return [word for key, value in facts for word in (key, *value, ".")]


def codec() -> tokenizer.TaskTokenizer:
    """Of passages, questions and answers."""
    return tokenizer.words([*KEYS, *VALUES, ".", "=", HIDDEN])


@dataclass(frozen=True)
class Facts:
    """Questions; `meta`: `answer`, `passage`."""

    name = "facts"

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        found: list[Example] = []
        while len(found) < count:
            facts, _ = draw(rng, twice=False)
            passage = " ".join(words(facts))
            key, value = facts[int(rng.integers(len(facts)))]
            if split_of(passage) == split:
                answer = " ".join(value)
                meta = {"answer": answer, "passage": passage}
                found.append(Example(f"{passage} = {key}", answer, meta))
        return found


@dataclass(frozen=True)
class Hidden:
    """Runs hidden anywhere; `share` of the passages have a fact twice."""

    share: float = 0.3
    name = "hidden"

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        found: list[Example] = []
        while len(found) < count:
            facts, _ = draw(rng, twice=rng.random() < self.share)
            text = words(facts)
            size = int(rng.integers(1, 3))
            at = int(rng.integers(1, len(text) - size + 1))
            if split_of(" ".join(text)) == split:
                shown = [*text[:at], HIDDEN, *text[at + size :], "=", text[at - 1]]
                found.append(Example(" ".join(shown), " ".join(text[at : at + size]), {}))
        return found


@dataclass(frozen=True)
class Recurring:
    """Values hidden where their fact stands a second time."""

    name = "recurring"

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        found: list[Example] = []
        while len(found) < count:
            facts, place = draw(rng, twice=True)
            key, value = facts[place]
            shown: list[Fact] = [*facts[:place], (key, [HIDDEN]), *facts[place + 1 :]]
            if split_of(" ".join(words(facts))) == split:
                prompt = " ".join([*words(shown), "=", key])
                found.append(Example(prompt, " ".join(value), {}))
        return found


@dataclass(frozen=True)
class Few:
    """The same few examples again and again."""

    examples: tuple[Example, ...]
    name = "few"

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        return [self.examples[i] for i in rng.integers(len(self.examples), size=count)]
