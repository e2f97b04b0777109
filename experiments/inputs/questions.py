"""Prompts from a Spec-Bench question file: JSON lines with an id, a category and turns.

    {"question_id": 81, "category": "writing", "turns": ["Compose ...", "Rewrite ..."]}

The first turn of each question is the prompt. Source of the format: Xia et al. 2024,
arXiv:2401.07851.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.files import parse

REAL_TEXTS = Path(__file__).with_name("real_texts.jsonl")
"""Six questions in each of eight groups, written for this project: those of Spec-Bench, and texts
and code to be written again with a change."""


@dataclass(frozen=True)
class Question:
    """One question and the group that it is counted in."""

    number: int
    category: str
    text: str


def read_questions(path: Path) -> list[Question]:
    """Every question of a file.

    Raises:
      ValueError: naming the file, the line and what is wrong with it.
    """
    if not path.is_file():
        raise ValueError(f"questions={path}: there is no such file; give a question.jsonl")
    found = []
    for index, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {index}"
        try:
            item = parse(line)
        except ValueError as error:
            raise ValueError(f"{where}: no JSON ({error}); each line is one object") from None
        turns = item.get("turns") if isinstance(item, dict) else None
        if not (isinstance(turns, list) and turns and isinstance(turns[0], str) and turns[0]):
            raise ValueError(f"{where}: 'turns' must be a list that begins with a text")
        number, category = item.get("question_id", index), item.get("category", "")
        if not isinstance(number, int) or not isinstance(category, str):
            raise ValueError(f"{where}: 'question_id' must be a number, 'category' a text")
        found.append(Question(number, category, turns[0]))
    if not found:
        raise ValueError(f"questions={path}: the file holds no question")
    return found


def part_of(questions: Sequence[Question], split: str) -> list[Question]:
    """The questions of a split: "test" or "validation", every other one of each category.

    What is trained or tuned sees the questions of one, what is measured those of the other.

    Raises:
      ValueError: for another split, or too few questions to split.
    """
    if split not in ("test", "validation"):
        raise ValueError(f"split={split!r}: choose 'test' or 'validation'")
    seen: dict[str, int] = {}
    found = []
    for question in questions:
        place = seen[question.category] = seen.get(question.category, -1) + 1
        if place % 2 == (split == "validation"):
            found.append(question)
    if not found:
        raise ValueError(
            f"questions: {len(questions)} in the file, none left for {split}; give more, since "
            "half of each category is kept for the other split"
        )
    return found


def grouped(questions: Sequence[Question], each: int) -> dict[str, list[Question]]:
    """The first `each` questions of every category."""
    found: dict[str, list[Question]] = {}
    for question in questions:
        group = found.setdefault(question.category, [])
        if len(group) < each:
            group.append(question)
    return found


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """`count` questions, taken in turn from the categories; all of them if there are fewer."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.category, []).append(question)
    longest = max(map(len, groups.values()))
    turns = [group[i] for i in range(longest) for group in groups.values() if i < len(group)]
    return turns[:count]
