"""AdaDec of one prompt in plain Python, every text run from its beginning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Law = Callable[[Sequence[int]], np.ndarray]  # a text -> the probability of each next token


def entropy(p: np.ndarray) -> float:
    return -sum(float(x) * math.log(x) for x in p if x > 0)


def score(
    law: Law, text: Sequence[int], token: int, ahead: int, ends: Sequence[int]
) -> tuple[float, int]:
    """Mean log-probability of a candidate and its greedy continuation; the latter's length."""
    total, text, length = math.log(law(text)[token]), [*text, token], 0
    while length < ahead and text[-1] not in ends:
        p = law(text)
        total += math.log(p.max())
        text.append(int(np.argmax(p)))
        length += 1
    return total / (length + 1), length


def decode(
    law: Law,
    prompt: Sequence[int],
    length: int,
    eos: Sequence[int],
    *,
    pauses: Callable[[int, float], bool],
    branch: int,
    ahead: int,
    line: Sequence[int] = (),
) -> tuple[list[int], list[bool], list[float]]:
    """(tokens, which were chosen by looking ahead, entropies)."""
    output: list[int] = []
    paused: list[bool] = []
    entropies: list[float] = []
    while len(output) < length and not (output and output[-1] in eos):
        text = [*prompt, *output]
        p = law(text)
        entropies.append(entropy(p))
        paused.append(pauses(len(output), entropies[-1]))
        if not paused[-1]:
            output.append(int(np.argmax(p)))
            continue
        candidates = sorted(range(len(p)), key=lambda token: (-p[token], token))[:branch]
        scored = [score(law, text, c, ahead, [*eos, *line])[0] for c in candidates]
        output.append(candidates[int(np.argmax(scored))])
    return output, paused, entropies
