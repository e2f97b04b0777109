"""Questions on passages from a file in SQuAD's format, and how answers to them are scored.

    {"data": [{"paragraphs": [{"context": "...", "qas": [
        {"id": "...", "question": "...", "answers": [{"text": "...", "answer_start": 0}]}]}]}]}

The file is read from a path the user gives. Answers are compared as SQuAD does (Rajpurkar et al.
2016, arXiv 1606.05250): lower case, without punctuation and the words a, an, the.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.files import parse, whole_text

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
      number: its id in the file.
      answers: any of them is right; `spans` are their first and last + 1 characters.
    """

    number: str
    context: str
    question: str
    answers: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def read_squad(path: Path) -> list[Asked]:
    """Every question that has an answer.

    Raises:
      ValueError: naming the file, the question and what is wrong.
    """
    if not path.is_file():
        raise ValueError(f"data={path}: there is no such file; give a SQuAD JSON file")
    try:
        data = parse(whole_text(path))["data"]
        entries = [
            (paragraph["context"], asked)
            for article in data
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not in SQuAD's format ({error!r})") from error
    found = [_asked(path, index, context, one) for index, (context, one) in enumerate(entries)]
    kept = [asked for asked in found if asked.answers]
    if not kept:
        raise ValueError(f"{path}: no question in it has an answer")
    return kept


def _asked(path: Path, index: int, context: Any, one: Any) -> Asked:
    where = f"{path}, question {index}"
    try:
        number, question = str(one["id"]), one["question"]
        answers = [(a["text"], int(a["answer_start"])) for a in one["answers"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: not in SQuAD's format ({error!r})") from error
    for name, text in (("context", context), ("question", question)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where} ({number}): its {name} is empty; leave the question out")
    for text, start in answers:
        if context[start : start + len(text)] != text:
            raise ValueError(
                f"{where} ({number}): the answer {text!r} does not stand at character {start} of "
                "its context"
            )
    texts = tuple(text for text, _ in answers)
    return Asked(number, context, question, texts, tuple((s, s + len(t)) for t, s in answers))


def misaligned(offsets: Sequence[tuple[int, int]], asked: Asked, text: str | None = None) -> bool:
    """Whether no answer begins and ends where tokens do; `offsets` are the tokens' characters.

    White space at a token's beginning does not count.
    """
    context = asked.context if text is None else text

    def trimmed(first: int, last: int) -> int:
        while first < last and context[first].isspace():
            first += 1
        return first

    begins = {trimmed(a, b) for a, b in offsets}
    ends = {b for _, b in offsets}
    return not any(first in begins and last in ends for first, last in asked.spans)


def normalized(text: str) -> str:
    """As answers are compared."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact(text: str, answers: Sequence[str]) -> float:
    """1 where the text is one of the answers, normalised."""
    return float(any(normalized(text) == normalized(answer) for answer in answers))


def f1(text: str, answers: Sequence[str]) -> float:
    """The best F1 of words over the answers, normalised."""
    return max(_f1(normalized(text).split(), normalized(answer).split()) for answer in answers)


def _f1(one: Sequence[str], other: Sequence[str]) -> float:
    shared = sum((Counter(one) & Counter(other)).values())
    if not one or not other:
        return float(one == other)
    return 2 * shared / (len(one) + len(other))


def windows(
    context: str, fits: Callable[[str], bool], most: int = 512, stride: int = 120
) -> list[str]:
    """Parts of a context that fit, whole words each: the context itself where it does.

    The width starts at `most` words and shrinks by a tenth until every part fits; parts begin
    every `stride` words until one reaches the end (Castel et al. 2022, arXiv 2108.05857).

    Raises:
      ValueError: not even single words fit.
    """
    if fits(context):
        return [context]
    words, width = context.split(), most
    while width >= 1:
        starts = range(0, max(len(words) - width, 0) + stride, stride)
        parts = [" ".join(words[start : start + width]) for start in starts if start < len(words)]
        if all(map(fits, parts)):
            return parts
        width = int(width * 0.9)
    raise ValueError(f"context {context[:60]!r}...: not even one word of it fits; shorten the rest")
