"""ParallelBench: what filling several places at once costs on tasks whose law is known.

Kang et al. 2025 (arXiv 2510.04767). A question on a list of n items has a law of right answers;
that law's total correlation, in bits, bounds the divergence of any decoder that fills all places
in one step, and says for ideal models how often an answer filled in steps of k is right. Here are
the laws (`law`), the closed forms of the paper's table, and its oracle over a grid of settings.
`jaxdecode.finite_law` has the bounds of every partition by enumeration.

Where the paper leaves a point open or its code differs: a shuffle may be the identity in the
paper's table and may not in its scorer, `identity` says which; accuracies of greedy filling are
those of ties broken at random, place by place; a threshold is strict by default, as in the
paper's formula, while the code of Fast-dLLM takes >=.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jaxdecode.finite_law import FiniteLaw
from jaxdecode.paper import Paper

PAPER = Paper(
    slug="parallelbench",
    title="ParallelBench: Understanding the Trade-offs of Parallel Decoding in Diffusion LLMs",
    authors=(
        "Wonjun Kang",
        "Kevin Galim",
        "Seunghyuk Oh",
        "Minjae Lee",
        "Yuchen Zeng",
        "Shuibai Zhang",
        "Coleman Hooper",
        "Yuezhou Hu",
        "Hyung Il Koo",
        "Nam Ik Cho",
        "Kangwook Lee",
    ),
    year=2025,
    arxiv="2510.04767",
    venue="ICLR 2026",
    claim="the total correlation of the answers, not the model, bounds what decoding in parallel "
    "loses; policies that unmask by confidence fall far short of an oracle that adapts",
    losslessness="not-applicable",
)

Operation = Literal[
    "copy", "replace_random", "shuffle", "insert_random", "remove_random", "latin_square"
]


def law(operation: Operation, n: int, identity: bool = True) -> FiniteLaw:
    """The law of right answers on a list 0..n-1, the new item being n; of squares n x n.

    Every way to answer is equally likely; `identity` says whether a shuffle may change nothing.
    """
    items, new = tuple(range(n)), (n,)
    match operation:
        case "copy":
            return FiniteLaw.uniform([items])
        case "replace_random":
            return FiniteLaw.uniform([*items[:i], *new, *items[i + 1 :]] for i in range(n))
        case "insert_random":
            return FiniteLaw.uniform([*items[:i], *new, *items[i:]] for i in range(n + 1))
        case "remove_random":
            return FiniteLaw.uniform([*items[:i], *items[i + 1 :]] for i in range(n))
        case "shuffle":
            every = itertools.permutations(items)
            return FiniteLaw.uniform(x for x in every if identity or x != items)
        case "latin_square":
            rows = itertools.product(itertools.permutations(items), repeat=n)
            square = (s for s in rows if all(len(set(c)) == n for c in zip(*s, strict=True)))
            return FiniteLaw.uniform(sum(s, ()) for s in square)
    raise ValueError(f"operation={operation!r}: no law is known by that name")


def correlation(operation: Literal["copy", "replace_random", "shuffle"], n: int) -> float:
    """C(Y | X) in bits by the closed forms; 0 wherever there is but one answer."""
    match operation:
        case "replace_random":
            return (n - 1) * math.log2(n / (n - 1)) if n > 1 else 0.0
        case "shuffle":
            return n * math.log2(n) - math.log2(math.factorial(n))
    return 0.0


def step_correlation(
    operation: Literal["replace_random", "shuffle"], n: int, m: int, k: int
) -> float:
    """C in bits of a step that fills k of the m places left, n - m being right already.

    Replace: averaged over whether the new item already stands, which it does not with
    probability m / n; where it does, nothing is left to choose.
    """
    if not 1 <= k <= m <= n:
        raise ValueError(f"n={n}, m={m}, k={k}: need 1 <= k <= m <= n")
    if operation == "shuffle":
        return k * math.log2(m) - math.log2(math.perm(m, k))
    alone = sum(-p * math.log2(p) for p in (1 / m, 1 - 1 / m) if p)
    stay = (m - k) / m
    together = k / m * math.log2(m) - (stay * math.log2(stay) if stay else 0.0)
    return m / n * (k * alone - together)


def sampled_accuracy(
    operation: Literal["copy", "replace_random", "shuffle"], n: int, k: int
) -> float:
    """How often an ideal model that draws k places a step answers rightly, in any order."""
    right = 1.0  # of what is left to be filled, m places, given that all is well so far
    for m in [n - start for start in range(0, n, k)][::-1] if operation != "copy" else ():
        filled = min(k, m)
        if operation == "shuffle":
            right *= math.perm(m, filled) / m**filled
        else:
            stay = 1 - 1 / m
            placed = filled / m * stay ** (filled - 1)
            right = placed + (stay**filled * right if m > filled else 0.0)
    return right


def greedy_accuracy(
    operation: Literal["copy", "replace_random", "shuffle"], n: int, k: int
) -> float:
    """The same of the most probable token in the k most certain places, ties at random."""
    if operation != "replace_random":
        return sampled_accuracy(operation, n, k)
    # Keeping is likelier than not as long as more than two places are left.
    last = n % k or k
    return {1: 1.0, 2: 0.5}.get(last, 0.0)


def threshold_accuracy(
    operation: Literal["copy", "replace_random", "shuffle"],
    n: int,
    threshold: float,
    strict: bool = True,
) -> float:
    """The same of all places whose confidence passes a threshold, the best one always.

    A confidence at the threshold passes unless `strict`.
    """

    def passes(confidence: float) -> bool:
        return confidence > threshold if strict else confidence >= threshold

    m = n
    while operation == "replace_random" and m > 1 and not passes((m - 1) / m):
        m -= 1
    while operation == "shuffle" and m > 1 and not passes(1 / m):
        m -= 1
    if operation == "copy" or m == 1:
        return 1.0
    return greedy_accuracy(operation, m, m)


def factor_accuracy(n: int, factor: float = 1.0) -> tuple[int, float]:
    """Steps and accuracy of an ideal replace_random under Fast-dLLM's factor rule.

    Of m places left, each kept with confidence (m - 1) / m, the largest k with
    (k + 1) / m <= factor are filled, at least one.
    """
    steps, m = 0, n
    while True:
        k = max(1, min(m, math.floor(factor * m + 1e-9) - 1))
        steps += 1
        if k == m:
            return steps, greedy_accuracy("replace_random", m, m)
        m -= k


def oracle(
    speed: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best accuracy at each mean speed, when every question may choose its own setting.

    Args:
      speed: f[settings, questions], tokens per step.
      right: bool[settings, questions].
    Returns:
      mean speeds and accuracies, f64[questions + 1] each, speeds rising: first every question at
      its fastest setting that answers rightly, then those given up one by one for the fastest of
      all, the one that gains most first. Between two points the slower one is the bound.
    """
    if speed.shape != right.shape or speed.ndim != 2:
        raise ValueError(f"speed {speed.shape} and right {right.shape}: give [settings, questions]")
    fastest = speed.max(axis=0)
    solved = right.any(axis=0)
    kept = np.where(solved, np.where(right, speed, -np.inf).max(axis=0), fastest)
    gain = np.sort((fastest - kept)[solved])[::-1]
    mean = kept.mean() + np.concatenate([[0.0], np.cumsum(gain)]) / len(fastest)
    accuracy = (solved.sum() - np.arange(len(gain) + 1)) / len(fastest)
    return mean, accuracy
