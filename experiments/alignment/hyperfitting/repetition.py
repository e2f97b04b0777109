"""How much texts repeat: themselves, each other, and what a model was trained on.

Texts are rows of tokens i32[R, L] of one length, context excluded: every measure depends on L.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Floats = NDArray[np.float64]


def type_token_ratio(texts: Tokens) -> Floats:
    """Different tokens over tokens, f64[R]."""
    return np.array([len(np.unique(text)) / len(text) for text in texts])


def repeated(texts: Tokens, n: int) -> Floats:
    """rep-n: the share of n-grams that occurred before in their text, f64[R].

    Welleck et al. 2020, arXiv 1908.04319.
    """
    return np.array([1 - len(_grams(text, n)) / (len(text) - n + 1) for text in texts])


def diversity(texts: Tokens) -> Floats:
    """(1 - rep-2)(1 - rep-3)(1 - rep-4), f64[R]. Su et al. 2022, arXiv 2202.06417."""
    return np.prod([1 - repeated(texts, n) for n in (2, 3, 4)], axis=0)


def bleu(text: Sequence[Hashable], reference: Sequence[Hashable], longest: int = 4) -> float:
    """BLEU of one text against one reference, without smoothing, in [0, 1].

    The geometric mean of the shares of 1- to 4-grams that the reference has too, each as often
    as it has it, times exp(1 - r / c) where the text is the shorter. Papineni et al. 2002.
    """
    total = 0.0
    for n in range(1, longest + 1):
        own, other = _grams(text, n), _grams(reference, n)
        shared = sum((own & other).values())
        if shared == 0:
            return 0.0
        total += math.log(shared / own.total())
    return math.exp(total / longest + min(0.0, 1 - len(reference) / len(text)))


def self_bleu(texts: Tokens) -> float:
    """How near a text is to the nearest of the others: the largest BLEU of each, averaged.

    Zhu et al. 2018, arXiv 1802.01886, with the nearest text alone for a reference.
    """
    rows = texts.tolist()
    nearest = [max(bleu(a, b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
    return float(np.mean(nearest))


def overlap(texts: Tokens, corpus: Tokens) -> NDArray[np.int64]:
    """The longest run of tokens that a text shares with one row of the corpus, i64[R]."""
    most = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        # run[d, i]: how many tokens up to i of row d are those just read.
        run = np.zeros((corpus.shape[0], corpus.shape[1] + 1), np.int64)
        for token in text:
            run[:, 1:] = np.where(corpus == token, run[:, :-1] + 1, 0)
            most[row] = max(most[row], run.max())
    return most


def _grams(text: Sequence[Hashable] | Tokens, n: int) -> Counter[tuple[Hashable, ...]]:
    row = np.asarray(text).tolist()
    return Counter(zip(*(row[i:] for i in range(n)), strict=False))
