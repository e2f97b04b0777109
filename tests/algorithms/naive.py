"""Slow references for selection among samples, one prompt at a time, in plain Python and NumPy.

A sample is a `Stream`: the tokens it would emit if left alone, and what each of its prefixes
is worth. Whatever a method does, it can only stop a stream early or choose among streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Stream:
    """One sample run to its end: worth[n] is the score of its first n tokens, perhaps NaN."""

    tokens: list[int]
    worth: Sequence[float]

    @property
    def length(self) -> int:
        return len(self.tokens)


@dataclass
class Answer:
    """What a method returned, and what it did.

    `alive` has the samples of every stage, `scores` and `lengths` theirs at its end.
    """

    sample: int = -1
    score: float = -math.inf
    length: int = 0
    ended: bool = False
    decoded: int = 0
    peak: int = 0
    invalid: int = 0
    alive: list[list[int]] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)


def best_of_n(streams: Sequence[Stream]) -> tuple[int, float]:
    """The sample whose whole response is worth most, the first of a tie; -1 if none counts."""
    best, top = -1, -math.inf
    for sample, stream in enumerate(streams):
        score = stream.worth[stream.length]
        if math.isfinite(score) and score > top:
            best, top = sample, score
    return best, top


def count_rule(scores: Sequence[float], alpha: float) -> list[int]:
    """Sort descending, keep round((1 - alpha) n) of n, halves to even; the first of a tie."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])  # a stable sort
    return sorted(order[: round((1 - alpha) * len(scores))])


def quantile_rule(
    scores: Sequence[float], alpha: float, method: Literal["linear", "lower"] = "linear"
) -> tuple[float, list[int]]:
    """(r_cut, who has a score of at least r_cut), r_cut the alpha-quantile of the scores."""
    cut = float(np.quantile(np.asarray(scores, np.float64), alpha, method=method))
    # Interpolation between equal numbers may round above them.
    return cut, [index for index, score in enumerate(scores) if score >= cut - 1e-12]


def survivors(scores: Sequence[float], alpha: float, rule: str) -> list[int]:
    """Who outlives a cut by a rule that keeps as many of tied scores as of distinct ones."""
    if rule == "count" or not scores:
        return count_rule(scores, alpha)
    distinct = len(quantile_rule(range(len(scores)), alpha)[1])
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return sorted(order[:distinct])


def schedule(
    budget: int, width: int, alpha: float, longest: int, rule: str
) -> list[tuple[int, int]]:
    """(responses, tokens of each) whenever they fill the budget, until one can be complete."""
    stages = [(width, min(budget // width, longest))]
    while stages[-1][1] < longest:
        after = len(survivors(range(stages[-1][0]), alpha, rule))
        if after in (0, stages[-1][0]):
            break
        stages.append((after, min(budget // after, longest)))
    return stages


def speculative_rejection(
    streams: Sequence[Stream],
    prompt: int,
    budget: int,
    alpha: float,
    longest: int,
    rule: str = "count",
    ranked: bool = True,
) -> Answer:
    """Early generation, scoring and cuts, over given streams.

    Args:
      prompt: tokens of the prompt; with those of a response they count against `longest`.
      ranked: a response that has ended competes in every later cut; else only in the first.
    """
    answer = Answer()
    alive = list(range(len(streams)))
    running, lost = set(alive), set()
    length = dict.fromkeys(alive, 0)
    worth = dict.fromkeys(alive, -math.inf)
    stages = schedule(budget, len(streams), alpha, longest, rule)
    for index, (_, until) in enumerate(stages):
        contenders = [k for k in alive if ranked or k in running]
        for k in sorted(running):
            target = max(length[k], min(streams[k].length, until - prompt))
            answer.decoded += target - length[k]
            length[k] = target
        for k in contenders:
            if k in lost:
                continue
            worth[k] = streams[k].worth[length[k]]
            if not math.isfinite(worth[k]):
                worth[k] = -math.inf
                lost.add(k)
                running.discard(k)
            elif length[k] == streams[k].length:
                running.discard(k)
                if (worth[k], -k) > (answer.score, -answer.sample):
                    answer.sample, answer.score, answer.ended = k, worth[k], True
        answer.alive.append(list(contenders))
        answer.scores.append([worth[k] for k in contenders])
        answer.lengths.append([length[k] for k in contenders])
        # The newest token of a response has not been run, so it is in no cache.
        answer.peak = max(answer.peak, sum(prompt + length[k] - 1 for k in alive))
        if index < len(stages) - 1:
            chosen = survivors([worth[k] for k in contenders], alpha, rule)
            alive = [contenders[i] for i in chosen]
            running &= set(alive)
    if not answer.ended:
        for k in running:
            if (worth[k], -k) > (answer.score, -answer.sample):
                answer.sample, answer.score = k, worth[k]
    answer.invalid = len(lost)
    answer.length = length[answer.sample] if answer.sample >= 0 else 0
    return answer
