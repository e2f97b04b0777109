"""Token recycling, one row at a time, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Path = tuple[int, ...]


def draft(table: np.ndarray, root: int, tree: Sequence[Path]) -> dict[Path, int]:
    """The token of each node; a node is the tuple of its ranks, the root is ()."""
    tokens: dict[Path, int] = {(): root}
    for path in tree:
        tokens[path] = int(table[tokens[path[:-1]], path[-1]])
    return tokens


def round_(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    text: Sequence[int],
    table: np.ndarray,
    tree: Sequence[Path],
    winner: str = "last",
    lazy: bool = False,
) -> tuple[list[int], np.ndarray]:
    """One step of greedy decoding: the tokens emitted and the new table.

    The deepest node wins all of whose path the model would have chosen, the first of equals.
    """
    tokens = draft(table, text[-1], tree)
    nodes = [(), *tree]

    def said(path: Path) -> np.ndarray:
        return next_logits([*text, *[tokens[path[: n + 1]] for n in range(len(path))]])

    logits = {path: said(path) for path in nodes}
    chosen = {path: int(np.argmax(logits[path])) for path in nodes}
    accepted = [
        path
        for path in nodes
        if all(tokens[path[: n + 1]] == chosen[path[:n]] for n in range(len(path)))
    ]
    best = max(accepted, key=lambda path: (len(path), -nodes.index(path)))
    way = [best[:n] for n in range(len(best) + 1)]
    new = table.copy()
    order = list(reversed(nodes)) if winner == "first" else nodes
    if winner == "accepted":
        order = [p for p in nodes if p not in way] + [p for p in nodes if p in way]
    for path in order:
        if path in way or not lazy:
            new[tokens[path]] = np.argsort(-logits[path], kind="stable")[: table.shape[1]]
    return [tokens[path] for path in way[1:]] + [chosen[best]], new
