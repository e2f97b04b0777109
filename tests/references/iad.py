"""Iterative Agent Decoding for one prompt, step by step, as its paper tells it."""

from __future__ import annotations

import math
from collections.abc import Callable

Scored = tuple[str, float]
Draw = Callable[[Scored | None, Scored | None, int], str]


def refine(
    draw: Draw, reward: Callable[[str], float], rounds: int, samples: int, gate: bool = True
) -> tuple[Scored | None, list[list[Scored]]]:
    """The answer and all that was drawn; `reward` is -inf for what cannot be scored.

    `draw(best, worst, n)` is the n-th answer to the prompt with that feedback.
    """
    best: Scored | None = None
    worst: Scored | None = None
    history = []
    for turn in range(rounds):
        same = worst is not None and best is not None and worst[0] == best[0]
        shown = None if same else worst
        drawn = [draw(best, shown, turn * samples + k) for k in range(samples)]
        scored = [(text, reward(text)) for text in drawn]
        history.append(scored)
        top = scored[0]
        for one in scored:
            if one[1] > top[1]:
                top = one
            if worst is None or one[1] < worst[1]:
                worst = one
        if top[1] > -math.inf and (best is None or top[1] > best[1] or not gate):
            best = top
    return best, history
