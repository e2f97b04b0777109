"""The ten list operations of ParallelBench's waiting line, over lists of single symbols.

    prompt   replace_index Q 2 | A B C D :
    target   A B Q D

Six of them have one right answer (copy, reverse, sort and the three at an index) and the others
several: which of these a sample shows is drawn afresh, so that a model learns the whole law. What
is right is judged by the rule, never by the one target. Source: arXiv 2510.04767, which writes
full names where symbols stand here; the rules of `right` are those of its scorers, and
`experiments.tasks.canvas.parallel_bench` applies them to its published files.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

ITEMS = tuple(string.ascii_uppercase)
OPERATIONS = (
    "copy",
    "reverse",
    "sort",
    "insert_index",
    "remove_index",
    "replace_index",
    "insert_random",
    "remove_random",
    "replace_random",
    "shuffle",
)
RANDOM = ("insert_random", "remove_random", "replace_random", "shuffle")
"""Operations with several right answers."""
END, BAR, NONE = ":", "|", "_"
_GIVEN = {"insert", "replace"}  # operations with a new item in the prompt


@dataclass(frozen=True)
class Question:
    """One operation on a list.

    Attributes:
      operation: one of OPERATIONS.
      items: the list, all different.
      word: the new item of insert and replace, not in the list; else "".
      index: the place, counted from 0, of the operations at an index; else -1.
    """

    operation: str
    items: tuple[str, ...]
    word: str = ""
    index: int = -1


@dataclass(frozen=True)
class Lists:
    """Questions of `operations` on lists of `lengths` (shortest, longest) items.

    Attributes:
      symbols: how many of the letters stand in lists.
      places: the list's in the prompt, those behind it empty ("_"); 0 for as many as it has. With
        places of its own an item is always as far from where it goes, which is soon learned.
    """

    operations: tuple[str, ...] = OPERATIONS
    lengths: tuple[int, int] = (3, 6)
    symbols: int = len(ITEMS)
    places: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or not self.operations:
            raise ValueError(f"operations: {unknown} are not among {', '.join(OPERATIONS)}")
        shortest, longest = self.lengths
        if not 2 <= shortest <= longest < 10:
            raise ValueError(f"lengths is {self.lengths}: pass 2 <= shortest <= longest <= 9")
        if not longest < self.symbols <= len(ITEMS):
            raise ValueError(f"symbols is {self.symbols}: pass {longest + 1} to {len(ITEMS)}")
        if self.places and self.places < longest:
            raise ValueError(f"places is {self.places}: lists have up to {longest} items")

    @property
    def name(self) -> str:
        return "lists"

    def words(self) -> tuple[str, ...]:
        """What prompts and answers are written with."""
        return (*OPERATIONS, BAR, END, NONE, *ITEMS[: self.symbols], *string.digits)

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        """One token a symbol."""
        return tokenizer.words(self.words())

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``operation``, ``length`` (of the list)."""
        check_split(split)
        examples = []
        while len(examples) < count:
            operation = self.operations[int(rng.integers(len(self.operations)))]
            length = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
            question = draw(rng, operation, length, self.symbols)
            prompt = show(question, self.places)
            if split_of(prompt) == split:
                target = " ".join(answer(rng, question))
                examples.append(Example(prompt, target, {"operation": operation, "length": length}))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the completion is one of the right answers, else 0."""
        return float(right(parse(prompt), completion.split()))

    def extract(self, completion: str) -> str | None:
        """The items, None where something else stands among them."""
        items = completion.split()
        return " ".join(items) if set(items) <= set(ITEMS) else None


def draw(
    rng: np.random.Generator, operation: str, length: int, symbols: int = len(ITEMS)
) -> Question:
    """A question whose items, new item and index are all equally likely."""
    kind, _, where = operation.partition("_")
    chosen = [ITEMS[i] for i in rng.permutation(symbols)[: length + 1]]
    places = length + 1 if kind == "insert" else length
    return Question(
        operation,
        tuple(chosen[:length]),
        chosen[length] if kind in _GIVEN else "",
        int(rng.integers(places)) if where == "index" else -1,
    )


def answer(rng: np.random.Generator, question: Question) -> list[str]:
    """One of the right answers, all equally likely."""
    items, word = list(question.items), question.word
    kind, _, where = question.operation.partition("_")
    at = question.index
    if where == "random":
        at = int(rng.integers(len(items) + (kind == "insert")))
    match kind:
        case "copy":
            return items
        case "reverse":
            return items[::-1]
        case "sort":
            return sorted(items)
        case "insert":
            return [*items[:at], word, *items[at:]]
        case "remove":
            return [*items[:at], *items[at + 1 :]]
        case "replace":
            return [*items[:at], word, *items[at + 1 :]]
    while True:  # a shuffle changes something
        mixed = [items[i] for i in rng.permutation(len(items))]
        if mixed != items:
            return mixed


def right(question: Question, found: Sequence[str]) -> bool:
    """Whether `found` answers the question, by the published rule of its operation."""
    items, found, word = list(question.items), list(found), question.word
    match question.operation:
        case "shuffle":
            return Counter(found) == Counter(items) and found != items
        case "insert_random":
            if word not in found:
                return False
            at = found.index(word)
            return found[:at] + found[at + 1 :] == items
        case "remove_random":
            return any(found == items[:i] + items[i + 1 :] for i in range(len(items)))
        case "replace_random":
            if word not in found or len(found) != len(items):
                return False
            at = found.index(word)
            return found == [*items[:at], word, *items[at + 1 :]]
    return found == answer(np.random.default_rng(0), question)  # draws nothing: there is but one


def show(question: Question, places: int = 0) -> str:
    """The prompt: the list stands last, whatever else the operation takes before it."""
    empty = [NONE] * (places - len(question.items))
    given = [question.word] if question.word else []
    given += [str(question.index)] if question.index >= 0 else []
    bar = [BAR] if given else []
    return " ".join([question.operation, *given, *bar, *question.items, *empty, END])


def parse(prompt: str) -> Question:
    """The question of a prompt; ValueError where it is none."""
    operation, *rest = prompt.split() or [""]
    if operation not in OPERATIONS or not rest or rest[-1] != END:
        raise ValueError(f"prompt {prompt!r} is not 'OPERATION WORD INDEX | ITEMS {END}'")
    given, items = [], rest[:-1]
    if BAR in items:
        at = items.index(BAR)
        given, items = items[:at], items[at + 1 :]
    items = [item for item in items if item != NONE]
    kind, _, where = operation.partition("_")
    if len(given) != (kind in _GIVEN) + (where == "index"):
        raise ValueError(f"prompt {prompt!r}: {operation} takes other words before {BAR!r}")
    word = given[0] if kind in _GIVEN else ""
    return Question(operation, tuple(items), word, int(given[-1]) if where == "index" else -1)
