"""How much surprise truncation lets through where next tokens follow a Zipf law.

    p(i) = i^-s / H,   H = sum_i i^-s,   surprise of rank i: s log2 i + log2 H

The theory behind Mirostat (Basu et al. 2021, arXiv 2007.14966): the cross-entropy of a
truncated law to the whole grows like log k in top-k, near a straight line in the p of top-p,
so that no fixed k or p holds the surprise of texts whose laws differ. All in bits, in float64 on
the host; `*_closed` are the closed forms of the published program, beside the exact sums that
they approximate and do not bound.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from algorithms.tokens.mirostat import PAPER

__all__ = [
    "PAPER",
    "cross_entropy",
    "harmonic",
    "harmonic_integral",
    "nucleus",
    "rank_at",
    "surprise",
    "tempered_cross_entropy",
    "top_k_closed",
    "top_k_cross_entropy",
    "top_p_closed",
    "top_p_cross_entropy",
    "weights",
]
Floats = NDArray[np.float64]


def _check(vocab: int, s: float) -> None:
    if vocab < 1:
        raise ValueError(f"vocab={vocab}: a law has at least one token")
    if not (s > 0 and math.isfinite(s)):
        raise ValueError(f"s={s}: the exponent must be finite and > 0")


def weights(vocab: int, s: float) -> Floats:
    """i^-s, f64[V]."""
    _check(vocab, s)
    return np.arange(1, vocab + 1, dtype=np.float64) ** -s


def harmonic(vocab: int, s: float) -> float:
    """H = sum of i^-s over all ranks."""
    return float(weights(vocab, s).sum())


def harmonic_integral(vocab: int, s: float) -> float:
    """The integral of i^-s from 1 to V, by which the rank formula approximates H."""
    _check(vocab, s)
    x = (s - 1) * math.log(vocab)
    return math.log(vocab) * (1.0 if x == 0 else -math.expm1(-x) / x)


def surprise(rank: int, vocab: int, s: float) -> float:
    """-log2 p(rank)."""
    if not 1 <= rank <= vocab:
        raise ValueError(f"rank={rank} must lie in 1..{vocab}, the vocabulary's size")
    return s * math.log2(rank) + math.log2(harmonic(vocab, s))


def rank_at(mu: float, vocab: int, s: float) -> float:
    """k: the rank whose surprise is mu, by the integral approximation; not rounded or bounded."""
    return 2.0 ** ((mu - math.log2(harmonic_integral(vocab, s))) / s)


def cross_entropy(drawn: Floats, vocab: int, s: float) -> float:
    """The mean surprise of tokens drawn with these weights by rank, f64[<= V]."""
    ranks = np.arange(1, len(drawn) + 1)
    total = float((drawn * np.log2(ranks)).sum() / drawn.sum())
    return s * total + math.log2(harmonic(vocab, s))


def top_k_cross_entropy(k: int, vocab: int, s: float) -> float:
    """Of the k most probable tokens; k = V is the entropy."""
    if not 1 <= k <= vocab:
        raise ValueError(f"k={k} must lie in 1..{vocab}, the vocabulary's size")
    return cross_entropy(weights(vocab, s)[:k], vocab, s)


def nucleus(p: float, vocab: int, s: float) -> int:
    """How many tokens the smallest set of mass >= p has."""
    if not 0 < p <= 1:
        raise ValueError(f"p={p} must lie in (0, 1]")
    mass = np.cumsum(weights(vocab, s))
    return vocab if p == 1 else int(np.searchsorted(mass, p * mass[-1] * (1 - 1e-12))) + 1


def top_p_cross_entropy(p: float, vocab: int, s: float) -> float:
    """Of the nucleus of mass p."""
    return top_k_cross_entropy(nucleus(p, vocab, s), vocab, s)


def tempered_cross_entropy(temperature: float, vocab: int, s: float) -> float:
    """Of draws at a temperature, to the law at temperature 1."""
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be > 0")
    return cross_entropy(weights(vocab, s / temperature), vocab, s)


def top_k_closed(k: float, vocab: int, s: float) -> float:
    """The closed form for top-k, s > 1: above the exact value at small k, below it at large k."""
    e = s - 1
    if e <= 0:
        raise ValueError(f"s={s}: the closed form needs an exponent above 1")
    c, b2 = 1 + 0.7 * e, s / (e * math.log(2))
    head = math.log2(2) / 2**s + math.log2(3) / 3**s
    b1 = s * (head + (math.log(3) + 1 / e) / (math.log(2) * e * 3**e))
    inner = (c * b2 * (math.log(k) + 1 / e) - b1) / (c * k**e - 1)
    return e / c * (b1 - inner) + math.log2(harmonic(vocab, s))


def top_p_closed(p: float, vocab: int, s: float) -> float:
    """The closed form for top-p: near a line, and above the exact value. It takes s near 1 and p
    away from 1."""
    e, total = s - 1, harmonic(vocab, s)
    return s * (p * total + e * (p * total) ** 2) / (2 * math.log(2)) + math.log2(total)
