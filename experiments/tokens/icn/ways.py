"""A sum that can be worked out in three ways, or guessed in three styles that are one.

    question   4029=
    ways       S19 s19 z19        a guess at sight, up to nine off
               L04 06 15          running sums
               R11 11 15          running sums from the right
               M04 11 15          sums of pairs, then the answer
    text       4029=aS19#bL040615#cR111115#   several ways, each kind once, in random order
               4029=aL040615#>15.             a way, and what it comes to

Guesses are the commonest, so that the first ranks of one law are three times the same. The task
isolates what navigation is for among ways, and is no evidence of more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, split_of

DIGITS, LETTERS, MARK, CUE, END = 4, "abcd", "#", ">", "."
GUESSES, OFF = "Ssz", 9  # a guess is as likely off by any number up to it as right
STYLES = {"S": 0.25, "s": 0.2, "z": 0.15, "L": 0.16, "R": 0.14, "M": 0.1}


def kind(style: str) -> str:
    """Guesses are of one kind."""
    return "S" if style in GUESSES else style


def way(style: str, digits: np.ndarray, off: int = 0) -> str:
    """A way, its style first, every number of two digits; a guess is `off`, and never negative."""
    left, right = np.cumsum(digits), np.cumsum(digits[::-1])
    match kind(style):
        case "S":
            steps = [max(left[-1] + off, 0)]
        case "L":
            steps = list(left[1:])
        case "R":
            steps = list(right[1:])
        case _:
            steps = [*(digits[::2] + digits[1::2]), left[-1]]
    return style + "".join(f"{step:02}" for step in steps)


@dataclass(frozen=True)
class Ways:
    """Training texts; `meta`: `answer`, two digits. `concluded` is the share that has one way and
    what it comes to."""

    concluded: float = 0.4
    name = "ways"

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.characters("0123456789=" + LETTERS + MARK + CUE + END + "".join(STYLES))

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        names, shares = list(STYLES), np.log(list(STYLES.values()))
        found: list[Example] = []
        while len(found) < count:
            digits = rng.integers(0, 10, DIGITS)
            question = "".join(map(str, digits)) + "="
            if split_of(question) != split:
                continue
            order = [names[i] for i in np.argsort(-(shares + rng.gumbel(size=len(names))))]
            chosen: dict[str, str] = {}
            for style in order:
                chosen.setdefault(kind(style), style)
            off = int(rng.integers(-OFF, OFF + 1))
            written = [way(style, digits, off) for style in chosen.values()]
            answer = f"{digits.sum():02}"
            if rng.random() < self.concluded:
                target = written[0] + MARK + CUE + written[0][-2:] + END
            else:
                some = written[: int(rng.integers(1, len(written) + 1))]
                parts = zip(LETTERS, some, strict=False)
                target = "".join(letter + text + MARK for letter, text in parts)[1:]
            found.append(Example(question + LETTERS[0], target, {"answer": answer}))
        return found
