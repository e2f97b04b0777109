"""Optimal selection among k independent draws, as the linear programme that defines it."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.optimize import linprog


def optimum(target: np.ndarray, draft: np.ndarray, count: int) -> float:
    """max P(Y is among X_1..X_k) over joint laws with X drawn from `draft` and Y from `target`."""
    vocab = len(target)
    drafts = list(product(range(vocab), repeat=count))
    chance = np.array([np.prod(draft[list(xs)]) for xs in drafts])
    gain = np.array([[y in xs for y in range(vocab)] for xs in drafts], float)
    rows = np.kron(np.eye(len(drafts)), np.ones(vocab))
    columns = np.kron(np.ones(len(drafts)), np.eye(vocab))
    # One equality follows from the others; with it rounding may look like a contradiction.
    found = linprog(
        -gain.ravel(),
        A_eq=np.vstack([rows, columns[:-1]]),
        b_eq=np.concatenate([chance, target[:-1]]),
    )
    assert found.success, found.message
    return -found.fun
