"""Beam searches in plain Python, one prompt at a time, written from the published rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Law = Callable[[tuple[int, ...]], np.ndarray]
"""Output so far -> log-probabilities f64[V] of the next token, -inf where excluded."""
Penalty = Callable[[tuple[int, ...], int, Sequence[tuple[int, ...]]], float]
"""(hypothesis, token, sequences of earlier groups, the newest token included) -> penalty."""


class Hypothesis(NamedTuple):
    tokens: tuple[int, ...]
    score: float
    raw: float


def nothing(own: tuple[int, ...], token: int, others: Sequence[tuple[int, ...]]) -> float:
    return 0.0


def search(
    law: Law,
    width: int,
    longest: int,
    eos: Sequence[int],
    *,
    groups: int = 1,
    spare: bool = True,
    strength: float = 0.0,
    penalty: Penalty = nothing,
    divisor: Callable[[int], float] = lambda length: 1.0,
) -> list[list[Hypothesis]]:
    """The finished hypotheses of every group, best first, after `longest` steps."""
    alive = [[Hypothesis((), 0.0, 0.0)] for _ in range(groups)]
    done: list[list[Hypothesis]] = [[] for _ in range(groups)]
    for step in range(1, longest + 1):
        taken: list[tuple[int, ...]] = []
        for group in range(groups):
            found = []
            for hypothesis in alive[group]:
                for token, logp in enumerate(law(hypothesis.tokens)):
                    if logp > -math.inf:
                        cost = strength * penalty(hypothesis.tokens, token, taken)
                        found.append(
                            Hypothesis(
                                (*hypothesis.tokens, token),
                                hypothesis.score + logp - cost,
                                hypothesis.raw + logp,
                            )
                        )
            found.sort(key=lambda h: -h.score)
            ending = [h for h in found if h.tokens[-1] in eos]
            if spare:
                going = [h for h in found if h.tokens[-1] not in eos][:width]
                ending = [h for h in ending if h in found[: width * (1 + len(eos))]]
            else:
                going = [h for h in found[:width] if h.tokens[-1] not in eos]
                ending = [h for h in found[:width] if h.tokens[-1] in eos]
            done[group] += ending + (going if step == longest else [])
            alive[group] = going
            taken += [h.tokens for h in (going if spare else found[:width])]
    return [sorted(one, key=lambda h: -h.score / divisor(len(h.tokens)))[:width] for one in done]


def hamming(own: tuple[int, ...], token: int, others: Sequence[tuple[int, ...]]) -> float:
    return sum(other[-1] == token for other in others)


def cumulative(temperature: float, gated: bool) -> Penalty:
    def penalty(own: tuple[int, ...], token: int, others: Sequence[tuple[int, ...]]) -> float:
        total = 0.0
        for other in others:
            mismatches = sum(a != b for a, b in zip((*own, token), other, strict=True))
            if not gated or other[-1] == token:
                total += math.exp(-mismatches / temperature)
        return total

    return penalty


def ngram(sizes: Sequence[int]) -> Penalty:
    def penalty(own: tuple[int, ...], token: int, others: Sequence[tuple[int, ...]]) -> float:
        total = 0
        for n in sizes:
            if len(own) + 1 >= n:
                wanted = (*own, token)[-n:]
                total += sum(
                    other[i : i + n] == wanted
                    for other in others
                    for i in range(len(other) - n + 1)
                )
        return float(total)

    return penalty


def embedded(table: np.ndarray, n: int) -> Penalty:
    def vector(tokens: Sequence[int]) -> np.ndarray:
        total = np.sum(table[list(tokens)], axis=0)
        return total / np.linalg.norm(total)

    def penalty(own: tuple[int, ...], token: int, others: Sequence[tuple[int, ...]]) -> float:
        if len(own) + 1 < n:
            return 0.0
        mine = vector((*own, token)[-n:])
        starts = [(o, i) for o in others for i in range(len(o) - n + 1)]
        if n == 1:
            starts = [(o, len(o) - 1) for o in others]
        return float(sum(mine @ vector(o[i : i + n]) for o, i in starts))

    return penalty
