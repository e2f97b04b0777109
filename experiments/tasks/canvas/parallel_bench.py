"""The published files of ParallelBench (Kang et al. 2025, arXiv 2510.04767), read by path.

A folder holds `task_config.yaml` and one file of JSON lines a task; the ten lists of the waiting
line, Latin squares, sudoku and words to sentences are read. A prompt is the task's wording around
a question, after one question with its answer where the file gives one. Nothing of the data is
part of this project.

Scores are the published rules: `verify` reads a list from the last "[" on, `strict` wants the
exact format. Sentences need a checker of grammar, which the paper takes from LanguageTool; there
is none by default, and no sentence is scored without. Deliberate difference: a row of a Latin
square has as many cells as it has symbols, where the published scorer only compares the sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.files import parse, text_lines
from experiments.tasks.canvas.lists import OPERATIONS, Question, right
from experiments.tasks.canvas.puzzles import is_latin
from experiments.tasks.task import Example, Split, check_split, distinct

CONFIG = "task_config.yaml"
LATIN, SUDOKU, WORDS = "latin_square", "sudoku", "words"
Grammar = Callable[[str], bool]


@dataclass(frozen=True)
class ParallelBench:
    """One file of the benchmark; all of it is for testing.

    Attributes:
      path: the file, such as `waiting_line/shuffle.jsonl`, beside its `task_config.yaml`.
      strict: score the exact list format instead of what can be read as a list.
      grammar: whether a sentence is sound English; only for words to sentences.
    Raises:
      ValueError: for a file that is missing, of a task that is not read, or without a config.
    """

    path: Path
    strict: bool = False
    grammar: Grammar | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise ValueError(f"path={self.path} is no file; pass one of ParallelBench's .jsonl")
        if not (self.path.parent / CONFIG).is_file():
            raise ValueError(f"{self.path.parent / CONFIG} is missing; the wording stands there")
        _ = self.kind

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def kind(self) -> str:
        """One of the list operations, "latin_square", "sudoku" or "words"."""
        stem = self.path.stem
        if self.path.parent.name == "words_to_sentence":
            return WORDS
        for kind in (*OPERATIONS, LATIN, SUDOKU):
            if stem == kind or stem.startswith((kind + "_n", kind + "_4")):
                return kind
        known = ", ".join((*OPERATIONS, LATIN, SUDOKU))
        raise ValueError(f"path={self.path}: {stem!r} is none of {known}, words_to_sentence/*")

    def examples(self) -> list[Example]:
        """In file order; ``meta``: ``messages`` (the dialogue), ``answer``, ``length``."""
        return list(self._examples)

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """Different questions in random order; the file is a test set."""
        check_split(split)
        if split != "test":
            raise ValueError(f"split is {split!r}: the published files are test questions")
        return distinct(self._examples, rng, count, split)

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the completion is right by the task's published rule, else 0."""
        if prompt not in self._answers:
            raise ValueError(f"prompt {prompt[:60]!r} is not a question of {self.path}")
        question, answer = self._answers[prompt]
        match self.kind:
            case "words":
                if self.grammar is None:
                    raise ValueError(
                        "grammar: scoring sentences needs a checker, such as LanguageTool"
                    )
                held = all(word in completion for word in answer["words"])
                return float(held and bool(completion.strip()) and self.grammar(completion))
            case "latin_square":
                return float(square_right(completion, answer["symbols"]))
            case "sudoku":
                return float(completion.strip() == answer.strip())
        items = parse_list(completion, self.strict)
        return float(items is not None and right(question, items))

    def extract(self, completion: str) -> str | None:
        """The list as it was read, or the text."""
        if self.kind not in OPERATIONS:
            return completion.strip() or None
        items = parse_list(completion, self.strict)
        return None if items is None else json.dumps(items)

    @cached_property
    def _examples(self) -> list[Example]:
        import yaml

        configs = yaml.safe_load((self.path.parent / CONFIG).read_text(encoding="utf-8"))
        if self.name not in configs:
            raise ValueError(f"{self.path.parent / CONFIG}: {self.name!r} is not described there")
        wording = configs[self.name]["prompt"].replace("\\n", "\n")
        return [
            self._example(f"{self.path}, line {number}", wording, line)
            for number, line in text_lines(self.path)
            if line.strip()
        ]

    def _example(self, where: str, wording: str, line: str) -> Example:
        try:
            record = parse(line)
            given, answer = record["input"], record["answer"]
            asked = [*given.get("icl_examples", []), record]
            messages = []
            for turn in asked:
                content = wording.format(**turn["input"])
                messages += [("user", content), ("assistant", shown(turn["answer"]))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: no ParallelBench record: {error!r}") from error
        target = messages.pop()[1]
        prompt = "\n\n".join(content.strip() for _, content in messages) + "\n\n"
        length = record.get("metadata", {}).get("length")
        meta = {"messages": messages, "answer": answer, "length": length, "input": given}
        return Example(prompt, target, meta)

    @cached_property
    def _answers(self) -> dict[str, tuple[Question, Any]]:
        return {e.prompt: (self._question(e.meta), e.meta["answer"]) for e in self._examples}

    def _question(self, meta: Mapping[str, Any]) -> Question:
        if self.kind not in OPERATIONS:
            return Question(self.kind, ())
        given = meta["input"]
        items = tuple(parse_list(given["context"]) or ())
        index = given.get("index")
        return Question(
            self.kind, items, given.get("word") or "", -1 if index is None else int(index)
        )


def shown(answer: Any) -> str:
    """The answer as a text, or the example of one where several are right."""
    return answer if isinstance(answer, str) else answer.get("example", "")


def parse_list(text: str, strict: bool = False) -> list[str] | None:
    """The items after the last "[" up to the next "]"; strictly, None unless '"A", "B"' exactly."""
    if strict and ("[" not in text or "]" not in text.rsplit("[", 1)[1]):
        return None
    inside = text.rsplit("[", 1)[-1].split("]", 1)[0]
    if not strict:
        return [item.strip('" ') for item in inside.split(",") if item.strip()]
    items = inside.split(", ")
    quoted = all(len(i) > 1 and i[0] == i[-1] == '"' and '"' not in i[1:-1] for i in items)
    return [item[1:-1] for item in items] if quoted else None


def square_right(text: str, symbols: list[str]) -> bool:
    """Whether the first rows over these symbols make a Latin square; others are passed over."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if set(row) == set(symbols) and len(row) == len(symbols)]
    return is_latin([cell for row in rows[: len(symbols)] for cell in row], symbols)
