"""A sum that is answered in three styles, of which the commonest is a guess.

    prompt   402915=
    target   S17                  a guess at sight, up to nine off, in four of ten
             L04 06 15 16 21      running sums, in three of ten
             M04 11 06 21         sums of pairs, then the sum, in three of ten

(Without the spaces.) The first token decides whether what follows can be got right, and its law
says nothing of it: greedy decoding takes the commonest style. The task isolates what looking
ahead is for, and is no evidence of more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, split_of

DIGITS, STYLES, SHARES = 6, "SLM", (0.4, 0.3, 0.3)
OFF = 9  # a guess is as likely off by any number up to it as right


@dataclass(frozen=True)
class Styles:
    """The task; `shares` are those of the styles."""

    shares: tuple[float, float, float] = SHARES

    @property
    def name(self) -> str:
        return "styles"

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.characters("0123456789=" + STYLES)

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """`meta`: `answer`, two digits."""
        found: list[Example] = []
        while len(found) < count:
            digits = rng.integers(0, 10, DIGITS)
            prompt = "".join(map(str, digits)) + "="
            if split_of(prompt) != split:
                continue
            style = STYLES[int(rng.choice(3, p=self.shares))]
            off = int(rng.integers(-OFF, OFF + 1))
            answer = f"{digits.sum():02}"
            target = style + written(style, digits, off)
            found.append(Example(prompt, target, {"answer": answer}))
        return found

    def verify(self, prompt: str, completion: str) -> float:
        """1 where the answer is the sum."""
        total = sum(map(int, prompt.removesuffix("=")))
        return float(self.extract(completion) == f"{total:02}")

    def extract(self, completion: str) -> str | None:
        """The last number of a whole solution."""
        style, rest = completion[:1], completion[1:]
        count = {"S": 1, "L": DIGITS - 1, "M": DIGITS // 2 + 1}.get(style, 0)
        return rest[-2:] if len(rest) == 2 * count and rest.isdigit() else None


def written(style: str, digits: np.ndarray, off: int = 0) -> str:
    """The solution in a style, every number of two digits; a guess is `off`, and never negative."""
    sums = np.cumsum(digits)
    match style:
        case "S":
            steps = [max(sums[-1] + off, 0)]
        case "L":
            steps = list(sums[1:])
        case _:
            steps = [*(digits[::2] + digits[1::2]), sums[-1]]
    return "".join(f"{step:02}" for step in steps)
