"""EAD of one prompt in plain Python: the schedule from entropies, and both models run anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Law = Callable[[Sequence[int]], np.ndarray]  # a text -> the probability of each next token


def bits(p: np.ndarray) -> float:
    return -sum(float(x) * math.log2(x) for x in p if x > 0)


@dataclass
class Schedule:
    """Who writes: "S" or "L", changed by `note` after each token."""

    tau: float
    window: int
    hold: int
    who: str = "S"
    partial: bool = True
    reset: bool = False
    both: bool = True
    seen: list[float] = field(default_factory=list)
    since: int = 0

    def note(self, entropy: float) -> None:
        self.seen.append(entropy)
        self.since += 1
        last = self.seen[-self.window :]
        want = "L" if sum(last) / len(last) > self.tau else "S"
        ready = self.partial or len(self.seen) >= self.window
        waits = self.since < self.hold and (self.both or self.who == "L")
        if want != self.who and ready and not waits:
            self.who, self.since = want, 0
            if self.reset:
                self.seen = []


def decode(
    laws: dict[str, Law],
    prompt: Sequence[int],
    length: int,
    eos: Sequence[int],
    schedule: Schedule,
    regenerate: bool = False,
) -> tuple[list[int], str]:
    """(greedy tokens, who wrote each)."""
    output: list[int] = []
    writers = ""
    while len(output) < length and not (output and output[-1] in eos):
        who, p = schedule.who, laws[schedule.who]([*prompt, *output])
        schedule.note(bits(p))
        if regenerate and who == "S" and schedule.who == "L":
            continue
        output.append(int(np.argmax(p)))
        writers += who
    return output, writers
