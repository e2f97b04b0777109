"""HumanEval: Python functions to complete, judged by unit tests (Chen et al. 2021, 2107.03374).

A file, plain or gzipped, holds one JSON object a line with ``task_id``, ``prompt``,
``entry_point``, ``canonical_solution`` and ``test``. It is read from a path the user gives;
nothing of it is part of this project. Programs and their tests run in the sandbox only, in two
processes between which calls cross as literals: `experiments.sandbox.calls` says what that rules
out and what it leaves possible. Tests see what the prompt itself defines, and the answer's function
by its name. An answer passes when the tests come to their end.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from experiments.sandbox.calls import examine, examine_all
from experiments.sandbox.program import Limits, Run
from experiments.tasks.records import read_records
from experiments.tasks.task import Example, Split, check_split, distinct

_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
# Where a continued function ends: the next statement at the margin.
_END = re.compile(r"\n(?=class |def |#|if |print\(|@|assert |import |from )")


@dataclass(frozen=True)
class HumanEval:
    """The problems of a file; all of them are test problems."""

    path: Path
    limits: Limits = field(default_factory=Limits)

    @property
    def name(self) -> str:
        return "human_eval"

    def examples(self, split: Split = "test") -> list[Example]:
        """Every problem in file order, the reference solution as target; ``meta`` the record."""
        check_split(split)
        return list(self._problems.values()) if split == "test" else []

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``count`` different problems in random order."""
        return distinct(self.examples(split), rng, count, split)

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the tests pass, else 0."""
        return float(self.judge(prompt, completion)[0])

    def extract(self, completion: str) -> str | None:
        """The code of a completion: its fenced block, or the text up to the next definition."""
        block = _BLOCK.search(completion)
        code = block.group(1) if block else _END.split(completion, maxsplit=1)[0]
        return code if code.strip() else None

    def judge(self, prompt: str, completion: str) -> tuple[bool, Run]:
        """Whether the tests pass, and what the sandbox says."""
        body, record = self.body(prompt, completion)
        examined = examine(body, _tests(record), self.limits)
        return examined.passed, examined.run

    def verify_all(
        self, prompts: Sequence[str], completions: Sequence[str], workers: int | None = None
    ) -> list[bool]:
        """``judge`` of many, several at a time."""
        made = [self.body(*pair) for pair in zip(prompts, completions, strict=True)]
        pairs = [(body, _tests(record)) for body, record in made]
        return [examined.passed for examined in examine_all(pairs, self.limits, workers)]

    def body(self, prompt: str, completion: str) -> tuple[str, Mapping[str, Any]]:
        """The program without its tests, and the problem's record."""
        if prompt not in self._problems:
            raise ValueError(f"prompt {prompt[:60]!r} is no problem of {self.path}")
        record = self._problems[prompt].meta
        code = self.extract(completion) or ""
        whole = re.search(rf"^def {record['entry_point']}\b", code, re.MULTILINE)
        # A whole function may use what the prompt imports; it then replaces the prompt's.
        return f"{prompt.rstrip()}\n    pass\n{code}" if whole else prompt + code, record

    @cached_property
    def _problems(self) -> dict[str, Example]:
        return {example.prompt: example for example in read(self.path)}


def surroundings(record: Mapping[str, Any]) -> str:
    """What tests find beside them: the prompt's own definitions, and the answer's function."""
    name = record["entry_point"]
    return f"{record['prompt'].rstrip()}\n    pass\n{name} = ask({name!r})\n"


def _tests(record: Mapping[str, Any]) -> str:
    return f"{surroundings(record)}{record['test']}\ncheck({record['entry_point']})\n"


def read(path: Path) -> list[Example]:
    """The problems of a file; ValueError with file and line where one is not in the format."""
    examples = []
    for where, record in read_records(path, _FIELDS):
        if not record["entry_point"].isidentifier():
            raise ValueError(f"{where}: entry_point {record['entry_point']!r} names no function")
        examples.append(Example(record["prompt"], record["canonical_solution"], record))
    return examples


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The chance that k of ``samples`` draws hold one that passes: 1 - C(n-c, k) / C(n, k).

    Unbiased in draws; the naive 1 - (1 - c/n)^k is not.
    """
    if not (0 <= passed <= samples and 1 <= k <= samples):
        raise ValueError(
            f"samples={samples}, passed={passed}, k={k}: pass 0 <= passed <= samples >= k >= 1"
        )
    return 1.0 - comb(samples - passed, k) / comb(samples, k)
