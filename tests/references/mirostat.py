"""Mirostat one row and one token at a time, from the equations."""

from __future__ import annotations

import math

import numpy as np


def kept_by_surprise(p: np.ndarray, mu: float) -> list[int]:
    """Version 2: ids of the tokens left."""
    kept = [i for i, x in enumerate(p) if x > 0 and -math.log2(x) <= mu]
    return kept or [int(np.argmax(p))]


def rank(p: np.ndarray, mu: float, m: int = 100) -> float:
    """Version 1: k before it is rounded and bounded."""
    top = sorted((float(x) for x in p), reverse=True)[: min(m, len(p))]
    t = [math.log((i + 1) / i) for i in range(1, len(top))]
    b = [math.log(top[i - 1] / top[i]) for i in range(1, len(top))]
    s = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
    e = s - 1
    return (e * 2**mu / (1 - len(p) ** -e)) ** (1 / s)


def kept_by_rank(p: np.ndarray, mu: float, m: int = 100) -> list[int]:
    k = min(max(round(rank(p, mu, m)), 1), len(p))
    least = sorted(p, reverse=True)[k - 1]
    return [i for i, x in enumerate(p) if x >= least]


def step(p: np.ndarray, mu: float, token: int, target: float, rate: float) -> float:
    """mu after a token."""
    return mu - rate * (-math.log2(p[token]) - target)
