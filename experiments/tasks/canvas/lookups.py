"""Look-ups: a short table of keys and values, and the values of some keys.

    prompt   lookup A 3 F 7 K 9 | F A :
    target   7 3

Every answer is a copy from the prompt; the answers are as many as the keys asked for, and
independent of each other given the prompt.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

NAME, BAR, END = "lookup", "|", ":"
KEYS = tuple(string.ascii_uppercase)


@dataclass(frozen=True)
class Lookups:
    """Tables of `pairs` (fewest, most) entries over the first `keys` letters, of which `asked`
    (fewest, most) are asked for."""

    pairs: tuple[int, int] = (2, 5)
    asked: tuple[int, int] = (1, 4)
    keys: int = len(KEYS)

    def __post_init__(self) -> None:
        for name in ("pairs", "asked"):
            fewest, most = getattr(self, name)
            if not 1 <= fewest <= most <= self.keys <= len(KEYS):
                raise ValueError(
                    f"{name} is {(fewest, most)}: 1 <= fewest <= most <= keys={self.keys} <= 26"
                )

    @property
    def name(self) -> str:
        return NAME

    def words(self) -> tuple[str, ...]:
        return (NAME, BAR, END, *KEYS[: self.keys], *string.digits)

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.words(self.words())

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``asked``, how many values the answer has."""
        check_split(split)
        examples = []
        while len(examples) < count:
            size = int(rng.integers(self.pairs[0], self.pairs[1] + 1))
            asked = int(rng.integers(self.asked[0], self.asked[1] + 1))
            keys = [KEYS[i] for i in rng.permutation(self.keys)[:size]]
            values = dict(zip(keys, map(str, rng.integers(10, size=size)), strict=True))
            wanted = [keys[i] for i in rng.permutation(size)[:asked]]
            entries = [word for key in keys for word in (key, values[key])]
            prompt = " ".join([NAME, *entries, BAR, *wanted, END])
            if split_of(prompt) == split:
                target = " ".join(values[key] for key in wanted)
                examples.append(Example(prompt, target, {"asked": len(wanted)}))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """1 where all values are right and nothing follows."""
        words = prompt.split()
        bar = words.index(BAR)
        table = dict(zip(words[1:bar:2], words[2:bar:2], strict=True))
        return float(completion.split() == [table[key] for key in words[bar + 1 : -1]])

    def extract(self, completion: str) -> str | None:
        values = completion.split()
        return " ".join(values) if set(values) <= set(string.digits) else None
