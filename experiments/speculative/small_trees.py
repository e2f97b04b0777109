"""Trees of drafts for a machine on which a pass over eight tokens costs half as much again as one
over a single token."""

from __future__ import annotations

from algorithms.speculative.drafters.ranked import Ranked

SMALL = (-1, -1, 0, 0, 2, 4)  # the most useful nodes of a tree of ranks
PAIRS = Ranked.of([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0)])  # for two heads
