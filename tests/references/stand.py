"""Averaged laws of contexts and the laws of without-replacement acceptance, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np

Laws = dict[tuple[int, ...], tuple[dict[int, float], int]]


def observe(laws: Laws, context: tuple[int, ...], law: dict[int, float], width: int = 10) -> None:
    """Fold one law into the mean of its context."""
    held, count = laws.get(context, ({}, 0))
    mean = {
        token: (count * held.get(token, 0.0) + law.get(token, 0.0)) / (count + 1)
        for token in [*held, *[t for t in law if t not in held]]
    }
    kept = sorted(mean, key=lambda token: -mean[token])[:width]
    laws[context] = ({token: mean[token] for token in kept}, count + 1)


def rebuilt(
    texts: Sequence[Sequence[int]],
    next_law: Callable[[Sequence[int]], np.ndarray],
    orders: Sequence[int],
    width: int = 10,
) -> Laws:
    """The table after all positions of the texts, one after the other."""
    laws: Laws = {}
    for text in texts:
        for end in range(1, len(text)):
            law = next_law(text[:end])
            top = np.argsort(-law, kind="stable")[:width]
            for order in orders:
                if order <= end:
                    observe(
                        laws,
                        tuple(text[end - order : end]),
                        {int(t): float(law[t]) for t in top},
                        width,
                    )
    return laws


def draws(q: np.ndarray, count: int) -> dict[tuple[int, ...], float]:
    """The law of `count` draws without replacement, in order."""
    found = {}
    for order in permutations(np.flatnonzero(q > 0).tolist(), min(count, int((q > 0).sum()))):
        left, probability = 1.0, 1.0
        for token in order:
            probability *= q[token] / left
            left -= q[token]
        found[order] = probability
    return found


def accepts(
    p: np.ndarray, q: np.ndarray, count: int, normalise: bool = True
) -> tuple[float, np.ndarray]:
    """The chance that one of `count` children is accepted, and the law of what is emitted.

    `normalise=False` plants the mistake of not normalising q after it lost a token.
    """
    total, law = 0.0, np.zeros(len(p))
    for order, probability in draws(q, count).items():
        left, own, going = p.copy(), q.copy(), probability
        for token in order:
            accept = min(1.0, left[token] / own[token]) if own[token] > 0 else 1.0
            law[token] += going * accept
            total += going * accept
            going *= 1 - accept
            rest = np.maximum(left - own, 0)
            left = rest / rest.sum() if rest.sum() > 1e-12 else left
            own[token] = 0.0
            own = own / own.sum() if normalise and own.sum() > 1e-12 else own
        law += going * left
    return total, law
