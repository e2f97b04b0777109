"""Grade-school word problems in the published GSM8K format (Cobbe et al. 2021, arXiv 2110.14168).

A file holds one JSON object a line with ``question`` and ``answer``; an answer ends in a line
``#### number`` and may carry calculator notes such as ``<<3*4=12>>``. The data is read from paths
the user gives; nothing of it is part of this project.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.tasks.records import read_records
from experiments.tasks.task import Example, Split, check_split, distinct, split_of

_DIGITS = r"(-?)\$?((?:\d[\d,]*)?\.\d+|\d[\d,]*)"
_NUMBER = re.compile(_DIGITS)
_MARKED = re.compile(r"####\s*\$?" + _DIGITS)
_CALCULATION = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True)
class Gsm8k:
    """The task over a train and a test file; 5 % of the train file serve as validation.

    With ``flexible`` an answer without the ``####`` mark is the last number in the text, as is
    usual for models that were not tuned on the format. ``calculator`` keeps the <<...>> notes.
    """

    train: Path
    test: Path
    flexible: bool = False
    calculator: bool = False

    @property
    def name(self) -> str:
        return "gsm8k"

    def examples(self, split: Split) -> list[Example]:
        """Every problem of a split in file order; ``meta``: ``answer`` (canonical digits)."""
        check_split(split)
        if split == "test":
            return self._test
        held_out = split == "validation"
        return [e for e in self._train if (split_of(e.prompt) == "validation") == held_out]

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``count`` different problems in random order."""
        return distinct(self.examples(split), rng, count, split)

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the completion's answer is the reference's number; else 0."""
        if prompt not in self._answers:
            raise ValueError(f"prompt {prompt[:60]!r} is not a question of {self.train} or test")
        return float(self.extract(completion) == self._answers[prompt])

    def extract(self, completion: str) -> str | None:
        """The stated number in canonical form, such as 1200 for ``#### $1,200.00``."""
        marked = list(_MARKED.finditer(completion))
        found = marked or (list(_NUMBER.finditer(completion)) if self.flexible else [])
        return _canonical(found[-1]) if found else None

    @cached_property
    def _train(self) -> list[Example]:
        return read(self.train, self.calculator)

    @cached_property
    def _test(self) -> list[Example]:
        return read(self.test, self.calculator)

    @cached_property
    def _answers(self) -> dict[str, str]:
        return {e.prompt: e.meta["answer"] for e in [*self._train, *self._test]}


def read(path: Path, calculator: bool = False) -> list[Example]:
    """The problems of one file; ValueError with file and line where one is not in the format."""
    examples = []
    for where, record in read_records(path, ("question", "answer")):
        marked = _MARKED.search(record["answer"])
        if not marked:
            tail = record["answer"][-40:]
            raise ValueError(f"{where}: expected the answer to end in '#### number', got {tail!r}")
        answer = record["answer"] if calculator else _CALCULATION.sub("", record["answer"])
        examples.append(Example(record["question"], answer, {"answer": _canonical(marked)}))
    return examples


def _canonical(found: re.Match[str]) -> str:
    sign, digits = found.groups()
    value = Decimal(sign + digits.replace(",", ""))
    return format(value.normalize() if value else Decimal(0), "f")
