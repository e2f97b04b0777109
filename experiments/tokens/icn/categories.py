"""Categories whose members are listed, and families of names that stand for one another.

    list       list c7 : 1. " f3n5 x2 " 2. " f0n11 x8 " 3. " f9n2 x4 "
    sentence   any g3 is f3n5 x2 .

A name is followed by a word of its own. Sentences name any member of a family, so that
the keys of a family come to be near each other; the members of a category are scattered over the
families. A list has members in random order without repetition, the common ones mostly and early:
what is rare is seldom seen, and seen behind the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split

QUOTE = '"'


@dataclass(frozen=True)
class Categories:
    """The world.

    Attributes:
      count, least, most: categories, and the members of one.
      families, size: of names.
      power: of the Zipf law of the members of a category.
      sentences: share of the training texts that are sentences.
      longer: share of the lists that may have any length; the others have at most `short`.
      seed: of who is a member of what.
    """

    count: int = 30
    least: int = 8
    most: int = 12
    families: int = 12
    size: int = 12
    power: float = 2.0
    sentences: float = 0.3
    longer: float = 0.5
    short: int = 4
    seed: int = 0

    name = "categories"

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= self.families * self.size:
            raise ValueError(
                f"least={self.least}, most={self.most}: members of a category, of the "
                f"{self.families * self.size} names that there are"
            )

    @cached_property
    def names(self) -> list[str]:
        return [f"f{f}n{n}" for f in range(self.families) for n in range(self.size)]

    @cached_property
    def entities(self) -> list[str]:
        """Of each name the whole item: the name and its own word."""
        rng = np.random.default_rng((self.seed, 1))
        words = [f"x{i}" for i in range(24)]
        return [f"{name} {rng.choice(words)}" for name in self.names]

    @cached_property
    def members(self) -> list[np.ndarray]:
        """Of each category its names by number, the commonest first."""
        rng = np.random.default_rng((self.seed, 2))
        sizes = rng.integers(self.least, self.most + 1, self.count)
        return [rng.choice(len(self.names), size, replace=False) for size in sizes]

    def right(self, category: int) -> set[str]:
        """The items that belong to a category."""
        return {self.entities[name] for name in self.members[category]}

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        numbers = [f"{i + 1}." for i in range(self.most)]
        kinds = [f"g{f}" for f in range(self.families)]
        some = [f"c{c}" for c in range(self.count)]
        words = [f"x{i}" for i in range(24)]
        marks = ["list", "any", "is", ":", ".", QUOTE]
        return tokenizer.words([*marks, *numbers, *kinds, *some, *words, *self.names])

    def asked(self, category: int) -> str:
        """A list with nothing in it, up to where its first item begins."""
        return f"list c{category} : 1. {QUOTE}"

    def between(self, number: int) -> str:
        """What stands behind item `number`, the first being 1."""
        return f"{QUOTE} {number + 1}. {QUOTE}"

    def listed(self, rng: np.random.Generator, category: int) -> list[str]:
        """Members of a category, as a training text has them."""
        members = self.members[category]
        weight = -self.power * np.log(np.arange(1, len(members) + 1))
        order = members[np.argsort(-(weight + rng.gumbel(size=len(members))))]
        most = len(members) if rng.random() < self.longer else self.short
        return [self.entities[i] for i in order[: int(rng.integers(1, most + 1))]]

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """Training texts; a prompt is what a text is asked by."""
        found = []
        for _ in range(count):
            if rng.random() < self.sentences:
                name = int(rng.integers(len(self.names)))
                found.append(Example(f"any g{name // self.size} is", f"{self.entities[name]} ."))
                continue
            category = int(rng.integers(self.count))
            items = self.listed(rng, category)
            parts = [item + " " + self.between(i) for i, item in enumerate(items[:-1], start=1)]
            found.append(Example(self.asked(category), " ".join([*parts, items[-1], QUOTE])))
        return found
