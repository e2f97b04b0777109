"""Draft trees and recursive rejection sampling, one text at a time, in plain Python.

A tree is a dict from a path (a tuple of tokens) to its children in the order they were drawn.
`law(path)` is the next token's law after a path. Written from the papers' descriptions: RSD
(Jeon et al. 2024, arXiv:2402.14160) and DySpec (Xiong et al. 2025, arXiv:2410.11744).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np

Path = tuple[int, ...]
Law = Callable[[Path], np.ndarray]
Tree = dict[Path, list[int]]


def draw(rng: np.random.Generator, law: np.ndarray) -> int:
    return int(rng.choice(len(law), p=law / law.sum()))


def siblings(rng: np.random.Generator, law: Law, factors: tuple[int, ...]) -> Tree:
    """RSD-C: so many children without replacement at each level."""
    tree: Tree = {}
    level: list[Path] = [()]
    for factor in factors:
        below = []
        for path in level:
            left = law(path).copy()
            for _ in range(min(factor, int((left > 0).sum()))):
                token = draw(rng, left)
                left[token] = 0
                tree.setdefault(path, []).append(token)
                below.append((*path, token))
        level = below
    return tree


def beam(rng: np.random.Generator, law: Law, width: int, length: int) -> Tree:
    """RSD-S: stochastic beam search with truncated Gumbel noise."""
    tree: Tree = {}
    level: list[tuple[Path, float, float]] = [((), 0.0, 0.0)]
    for _ in range(length):
        found = []
        for path, phi, gamma in level:
            with np.errstate(divide="ignore"):
                logs = phi + np.log(law(path))
            noisy = logs + rng.gumbel(size=len(logs))
            top = noisy.max()
            for token in np.flatnonzero(np.isfinite(logs)):
                inner = math.exp(-gamma) - math.exp(-top) + math.exp(-noisy[token])
                found.append((-math.log(inner), path, int(token), logs[token]))
        found.sort(reverse=True)
        level = []
        for gamma, path, token, phi in found[:width]:
            tree.setdefault(path, []).append(token)
            level.append(((*path, token), phi, gamma))
    return tree


def heap(rng: np.random.Generator, law: Law, budget: int) -> Tree:
    """DySpec's greedy form."""
    tree: Tree = {}
    queue: list[tuple[float, int, Path, np.ndarray]] = [(-1.0, 0, (), law(()).copy())]
    pushed = 1
    for _ in range(budget):
        if not queue:
            break
        negative, _, path, left = heapq.heappop(queue)
        value, left = -negative, left / left.sum()
        token = draw(rng, left)
        tree.setdefault(path, []).append(token)
        chance = left[token]
        left[token] = 0
        if left.sum() > 0:
            heapq.heappush(queue, (-value * (1 - chance), pushed, path, left))
        child = (*path, token)
        heapq.heappush(queue, (-value * chance, pushed + 1, child, law(child).copy()))
        pushed += 2
    return tree


def threshold(rng: np.random.Generator, law: Law, least: float) -> Tree:
    """DySpec's form that draws level by level whatever is worth `least`."""
    tree: Tree = {}
    leaves: list[tuple[Path, float]] = [((), 1.0)]
    while leaves:
        below = []
        for path, value in leaves:
            left = law(path).copy()
            while value >= least and left.sum() > 0:
                left /= left.sum()
                token = draw(rng, left)
                tree.setdefault(path, []).append(token)
                below.append(((*path, token), value * left[token]))
                value *= 1 - left[token]
                left[token] = 0
        leaves = below
    return tree


def verify(rng: np.random.Generator, target: Law, draft: Law, tree: Tree) -> Path:
    """Recursive rejection sampling: the accepted tokens and the one after them."""
    path: Path = ()
    while True:
        wanted, drawn = target(path), draft(path).copy()
        for token in tree.get(path, []):
            if rng.random() * drawn[token] <= wanted[token]:
                path = (*path, token)
                break
            rest = np.maximum(wanted - drawn, 0)
            wanted = rest / rest.sum()
            drawn[token] = 0
            drawn = drawn / drawn.sum() if drawn.sum() > 0 else drawn
        else:
            return (*path, draw(rng, wanted))
