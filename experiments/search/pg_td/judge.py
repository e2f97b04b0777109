"""How programs are graded: problems of the zoo or of a file, and a judge that runs them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from experiments.inputs.sources import Codec
from experiments.tasks.graded import Graded
from experiments.tasks.programs import Programs, parse, passed, split_steps
from experiments.tasks.task import Example

Grade = tuple[float, float]  # shares of public and of hidden tests passed


@runtime_checkable
class World(Protocol):
    """Problems, and a grade for every program."""

    def questions(self, count: int, seed: int) -> list[Example]: ...

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]: ...

    def size(self, text: str) -> float:
        """How long a program is, in units of which `typical` are many."""
        ...

    @property
    def typical(self) -> float: ...

    def comments(self, text: str) -> float:
        """The share of a program that explains it."""
        ...


@dataclass(frozen=True)
class Lists:
    """List programs; a program's size are its operations, and it cannot be commented."""

    task: Programs
    typical: float = 3.0

    def questions(self, count: int, seed: int) -> list[Example]:
        return self.task.sample(np.random.default_rng(seed), count, "test")

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]:
        return [
            (passed(text, parse(example.prompt)), passed(text, example.meta["hidden"]))
            for example, text in zip(examples, texts, strict=True)
        ]

    def size(self, text: str) -> float:
        return float(len(split_steps(text)))

    def comments(self, text: str) -> float:
        return 0.0


@dataclass(frozen=True)
class Functions:
    """Python functions; a program's size are its lines."""

    graded: Graded
    typical: float = 20.0

    def questions(self, count: int, seed: int) -> list[Example]:
        return self.graded.task.sample(np.random.default_rng(seed), count, "test")

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]:
        return self.graded.grades([example.prompt for example in examples], texts)

    def size(self, text: str) -> float:
        return float(len(self._lines(text)))

    def comments(self, text: str) -> float:
        lines = self._lines(text)
        return sum("#" in line for line in lines) / max(len(lines), 1)

    def _lines(self, text: str) -> list[str]:
        code = self.graded.task.extract(text) or ""
        return [line for line in code.splitlines() if line.strip()]


@dataclass
class Judge:
    """Rewards for texts on the host: the share of public tests passed, and a bonus.

    A program is run once for a problem. With a bonus the reward is (share + bonus * extra) /
    (1 + bonus), `extra` in [0, 1].

    Attributes:
      asked, run: rewards given, and programs that were run for them; `seconds` in here.
    """

    world: World
    examples: Sequence[Example]
    codec: Codec
    asked: int = 0
    run: int = 0
    seconds: float = 0.0
    known: dict[tuple[str, str], Grade] = field(default_factory=dict)

    def grades(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Grade]:
        """Of one program a problem, those not known yet run together."""
        pairs = [(example.prompt, text) for example, text in zip(examples, texts, strict=True)]
        new = {
            pair: example
            for pair, example in zip(pairs, examples, strict=True)
            if pair not in self.known
        }
        found = self.world.grades(list(new.values()), [text for _, text in new])
        self.known.update(zip(new, found, strict=True))
        self.asked, self.run = self.asked + len(pairs), self.run + len(new)
        return [self.known[pair] for pair in pairs]

    def rewards(self, short, commented, ids, prompts, texts) -> list[float]:
        """Of texts for problems; `ids` are places among the examples."""
        begun = time.perf_counter()
        grades = self.grades([self.examples[place] for place in ids], texts)
        extra = [
            float(short) * math.exp(-self.world.size(text) / self.world.typical)
            + float(commented) * self.world.comments(text)
            for text in texts
        ]
        found = [
            (public + more) / (1 + float(short) + float(commented))
            for (public, _), more in zip(grades, extra, strict=True)
        ]
        self.seconds += time.perf_counter() - begun
        return found

    def texts(self, tokens, lengths, after: Sequence[int]) -> list[str]:
        """Texts of responses to the prompt whose tokens are `after`."""
        rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
        return [self.codec.decode(row[:length], after) for row, length in rows]
