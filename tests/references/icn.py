"""ICN of one prompt in plain Python, every text run from its beginning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Law = Callable[[Sequence[int]], np.ndarray]  # a text -> the probability of each next token
Item = tuple[int, ...]


def continued(
    law: Law, text: Sequence[int], token: int, ends: Sequence[int], most: int
) -> tuple[Item, float]:
    """A greedy item from its first token on, its end included, and its log-probability."""
    item, total = [token], math.log(law(text)[token])
    while item[-1] not in ends and len(item) < most:
        p = law([*text, *item])
        item.append(int(np.argmax(p)))
        total += math.log(p.max())
    return tuple(item), total


def explore(
    law: Law,
    prompt: Sequence[int],
    between: Sequence[Sequence[int]],
    runs: int,
    width: int,
    *,
    ends: Sequence[int],
    most: int,
    nothing: Sequence[int] = (),
    among: int | None = None,
    from_list: bool = False,
    room: float = math.inf,
) -> tuple[list[Item], list[float], list[int]]:
    """(items, their log-probabilities, the last text that was looked from)."""
    found: list[Item] = []
    logprobs: list[float] = []
    text, looked, tried = list(prompt), list(prompt), set()
    for _ in range(runs):
        looked, p = list(text), law(text)
        order = sorted(range(len(p)), key=lambda token: (-p[token], token))[:among]
        for token in [t for t in order if t not in tried][:width]:
            tried.add(token)
            start = looked if from_list else prompt
            item, logprob = continued(law, start, token, ends, most)
            found.append(item)
            logprobs.append(logprob)
            line = between[len(found) - 1] if len(found) <= len(between) else ()
            text += [*(item[:-1] if item[-1] in ends else nothing), *line]
            if len(text) - len(prompt) > room:
                room = -1.0  # the rest of this run is explored, and no more
        if room < 0:
            break
    return found, logprobs, looked
