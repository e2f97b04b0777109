"""The most probable part of a passage by scoring every part on its own, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Law = Callable[[Sequence[int]], np.ndarray]  # a text -> the probability of each next token


def score(law: Law, prompt: Sequence[int], part: Sequence[int], end: int) -> float:
    """S of a part: of its tokens one after the other, and of the end token."""
    total, text = 0.0, list(prompt)
    for token in [*part, end]:
        p = law(text)[token]
        total += math.log(p) if p > 0 else -math.inf
        text.append(token)
    return total


def scores(
    law: Law, prompt: Sequence[int], passage: Sequence[int], end: int, longest: int | None = None
) -> dict[tuple[int, int], float]:
    """(first, length) -> S, of all parts in the order of first, then length."""
    n = len(passage)
    most = n if longest is None else longest
    return {
        (i, size): score(law, prompt, passage[i : i + size], end)
        for i in range(n)
        for size in range(1, min(most, n - i) + 1)
    }


def best(found: dict[tuple[int, int], float]) -> tuple[int, int]:
    """The first of the highest scores."""
    return max(found, key=lambda part: found[part])


def constrained(
    law: Law, prompt: Sequence[int], passage: Sequence[int], end: int, length: int
) -> list[int]:
    """Greedy among what keeps the output a part of the passage; the end token is included."""
    output: list[int] = []
    while len(output) < length:
        n, size = len(passage), len(output)
        places = [i for i in range(n - size + 1) if list(passage[i : i + size]) == output]
        allowed = {passage[i + size] for i in places if i + size < n} | ({end} if output else set())
        p = law([*prompt, *output])
        output.append(max(sorted(allowed), key=lambda token: p[token]))
        if output[-1] == end:
            break
    return output
