"""Lexical units, and decoding by spans, in plain Python; every text run from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Law = Callable[[Sequence[int]], np.ndarray]  # a text -> the probability of each next token


def units(p: Sequence[float] | np.ndarray, alpha: float, longest: int) -> list[tuple[int, int]]:
    """Maximal runs above alpha, cut from the left."""
    found, place = [], 0
    while place < len(p):
        end = place
        while end < len(p) and p[end] > alpha:
            end += 1
        found += [(s, min(s + longest, end) - 1) for s in range(place, end, longest)]
        place = max(end, place + 1)
    return found


def passes(p: Sequence[float], alpha: float, longest: int) -> int:
    """Passes in which every unit is said at once."""
    found = units(p, alpha, longest)
    inside = sum(last - first + 1 for first, last in found)
    return len(found) + len(p) - inside


def accepted(
    sure: Sequence[float], beta: float, first_free: bool = False, repeats: Sequence[bool] = ()
) -> int:
    """How many tokens of a span are emitted."""
    if sure[0] < beta and not first_free:
        return 1
    count = 1
    while count < len(sure) and sure[count] >= beta and not (repeats and repeats[count]):
        count += 1
    return count


def decode(
    law: Law,
    prompt: Sequence[int],
    length: int,
    eos: Sequence[int],
    *,
    pad: int,
    longest: int,
    beta: float,
    first_free: bool = False,
    same: bool = True,
) -> tuple[list[int], list[int]]:
    """(greedy tokens, how many each pass emitted)."""
    output: list[int] = []
    spans: list[int] = []
    while len(output) < length and not (output and output[-1] in eos):
        laws = [law([*prompt, *output, *[pad] * i]) for i in range(longest)]
        said = [int(np.argmax(p)) for p in laws]
        sure = [float(p.max()) for p in laws]
        repeats = [same and i > 0 and said[i] == said[i - 1] for i in range(longest)]
        span = said[: accepted(sure, beta, first_free, repeats)]
        ends = [i + 1 for i, token in enumerate(span) if token in eos]
        span = span[: ends[0]] if ends else span
        span = span[: length - len(output)]
        output += span
        spans.append(len(span))
    return output, spans
