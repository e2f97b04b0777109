"""The best shape of a static draft tree, by dynamic programming (Sequoia; Chen et al. 2024,
arXiv:2402.12374).

P[k] is the probability that the k-th child of an accepted node is the one accepted; what P lacks
to 1 is the probability that none is. A node is then accepted with the product of P over the
places on its path, and a tree of n nodes, the root included, yields F = the sum over its nodes
of these, in tokens for each pass of the target. With T[n, b] the best F of a root with b
children,

    T[1, 0] = 1,    T[n, b] = max over s of T[n - s, b - 1] + P[b] max over j of T[s, j],

with one more index where the number of levels is bounded. Runs on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxdecode.draft import ROOT


@dataclass(frozen=True)
class Shapes:
    """Best trees of up to `size` nodes and `levels` levels, root included in both.

    Attributes:
      positional: P[0], P[1], ... of the first child, the second, and so on.
    """

    positional: tuple[float, ...]
    size: int
    levels: int

    @classmethod
    def of(cls, positional: ArrayLike, size: int, levels: int | None = None) -> Shapes:
        """Without a bound on levels, as many as there are nodes.

        Raises:
          ValueError: for chances that are no probabilities, or no node.
        """
        chances = np.asarray(positional, np.float64)
        if chances.ndim != 1 or not len(chances) or chances.min() < 0 or chances.sum() > 1 + 1e-6:
            raise ValueError(
                f"positional={positional}: give the probabilities that the first, the second, ... "
                "child is accepted, which sum to at most 1"
            )
        if size < 1 or (levels is not None and levels < 1):
            raise ValueError(f"size={size}, levels={levels}: a tree has a root, so at least 1")
        return cls(tuple(chances.tolist()), size, min(levels or size, size))

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """T[l, n, b], and the size of the last child's subtree there."""
        width = min(len(self.positional), self.size)
        shape = (self.levels + 1, self.size + 1, width + 1)
        table, split = np.full(shape, -np.inf), np.zeros(shape, np.int64)
        for level in range(1, self.levels + 1):
            table[level, 1, 0] = 1.0
            best = table[level - 1].max(axis=1)
            for b in range(1, width + 1):
                # A child that is never accepted is worth nothing, and 0 * -inf is no number.
                child = np.full_like(best, -np.inf)
                np.multiply(self.positional[b - 1], best, out=child, where=np.isfinite(best))
                for n in range(2, self.size + 1):
                    sums = table[level, n - 1 : 0 : -1, b - 1] + child[1:n]
                    s = int(np.argmax(sums))
                    table[level, n, b], split[level, n, b] = sums[s], s + 1
        return table, split

    def expected(self, size: int, levels: int | None = None) -> float:
        """F of the best tree of `size` nodes and at most so many levels; -inf if there is none."""
        return float(self._table[0][levels or self.levels, size].max())

    def parents(self, size: int, levels: int | None = None) -> tuple[int, ...]:
        """The best tree, without its root, numbered level by level.

        Raises:
          ValueError: if no tree has this size.
        """
        levels = levels or self.levels
        if not 2 <= size <= self.size or not np.isfinite(self.expected(size, levels)):
            raise ValueError(
                f"size={size}, levels={levels}: no such tree with at most {len(self.positional)} "
                f"children a node, {self.levels} levels and 2..{self.size} nodes"
            )
        table, split = self._table
        found: list[int] = []
        level = [(ROOT, size, levels)]
        while level:
            below = []
            for node, n, bound in level:
                children, b = [], int(np.argmax(table[bound, n]))
                while b:
                    s = int(split[bound, n, b])
                    children.append(s)
                    n, b = n - s, b - 1
                for s in reversed(children):
                    below.append((len(found), s, bound - 1))
                    found.append(node)
            level = below
        return tuple(found)

    def fastest(self, verify: Mapping[int, float], draft: float) -> tuple[int, int]:
        """(size, levels) of the tree with the least time per token.

        Args:
          verify: seconds of a pass of the target over each number of tokens that may be chosen.
          draft: seconds of a pass of the draft model. A tree takes one for each level but the
            last; the paper's programme counts one for each.
        """
        options = {
            (size, levels): (draft * (levels - 1) + seconds) / self.expected(size, levels)
            for size, seconds in verify.items()
            for levels in range(1, self.levels + 1)
            if size <= self.size and self.expected(size, levels) > 0
        }
        if not options:
            sizes: Sequence[int] = sorted(verify)
            raise ValueError(f"verify: none of {sizes} is the size of a tree; offer 1..{self.size}")
        return min(options, key=lambda option: options[option])
