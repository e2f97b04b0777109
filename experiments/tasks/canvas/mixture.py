"""Several tasks at once in one vocabulary with a mask token: what the small denoiser is taught.

Every text is words between single spaces. Arithmetic is spelled a character a word, with ";" for
the end of a line:

    prompt   ( 3 + 4 ) * 2 =
    target   3 + 4 = 7 ; 7 * 2 = 1 4 ; # 1 4

A question's task is told by its first word, which the others begin with their own name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.arithmetic import ALPHABET, Arithmetic
from experiments.tasks.canvas.lists import Lists
from experiments.tasks.canvas.lookups import Lookups
from experiments.tasks.task import Example, Split, Task, check_split

MASK, LINE = "<mask>", ";"
SMALL = Arithmetic(operations=(1, 2), highest=20)


@dataclass(frozen=True)
class Spaced:
    """Arithmetic with a space between characters."""

    task: Arithmetic = SMALL

    @property
    def name(self) -> str:
        return self.task.name

    def words(self) -> tuple[str, ...]:
        return tuple(LINE if character == "\n" else character for character in ALPHABET)

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta`` is that of the task."""
        return [
            Example(spaced(example.prompt), spaced(example.target), example.meta)
            for example in self.task.sample(rng, count, split)
        ]

    def verify(self, prompt: str, completion: str) -> float:
        return self.task.verify(joined(prompt), joined(completion))

    def extract(self, completion: str) -> str | None:
        return self.task.extract(joined(completion))


def spaced(text: str) -> str:
    """One word a character."""
    return " ".join(text.replace("\n", LINE))


def joined(text: str) -> str:
    """The text that `spaced` took apart."""
    return text.replace(" ", "").replace(LINE, "\n")


LISTS, LOOKUPS = Lists(symbols=16, places=6), Lookups(keys=16)
PARTS: tuple[tuple[Task, float], ...] = ((LISTS, 0.76), (LOOKUPS, 0.1), (Spaced(), 0.14))


@dataclass(frozen=True)
class Mixture:
    """Questions of all tasks, each as often as its share says."""

    parts: tuple[tuple[Task, float], ...] = field(default=PARTS)

    @property
    def name(self) -> str:
        return "mixture"

    def words(self) -> tuple[str, ...]:
        """The mask and the words of every task, each once."""
        every = [word for task, _ in self.parts for word in task.words()]  # type: ignore[attr-defined]
        return (MASK, *dict.fromkeys(every))

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        """Id 3 is the mask."""
        return tokenizer.words(self.words())

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: that of the task, and ``task``, its name."""
        check_split(split)
        shares = np.array([share for _, share in self.parts])
        drawn = rng.multinomial(count, shares / shares.sum())
        examples = [
            Example(example.prompt, example.target, {"task": task.name, **example.meta})
            for (task, _), number in zip(self.parts, drawn, strict=True)
            for example in task.sample(rng, int(number), split)
        ]
        return [examples[i] for i in rng.permutation(count)]

    def task_of(self, prompt: str) -> Task:
        """Whose question a prompt is."""
        first = prompt.split()[0]
        for task, _ in self.parts:
            names: Sequence[str] = getattr(task, "operations", (task.name,))
            if first in names:
                return task
        return next(task for task, _ in self.parts if isinstance(task, Spaced))

    def verify(self, prompt: str, completion: str) -> float:
        return self.task_of(prompt).verify(prompt, completion)

    def extract(self, completion: str) -> str | None:
        """The words; what an answer is, only the question's task knows."""
        return completion
