"""What the experiment on ParallelBench found, and what of it a record keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.diffusion.parallelbench.grid import Cell, Grid
from experiments.diffusion.parallelbench.known import Row
from experiments.diffusion.parallelbench.setting import Config
from experiments.harness.statistics import Floats


@dataclass(frozen=True)
class Findings:
    """Everything measured, or what a record kept of it.

    Attributes:
      known: rows of the known laws.
      right: k -> operation -> which of its answers are right, at lists of one length.
      bits: rows of the divergences.
      grid: the policies.
      twin: which of the grid's questions the autoregressive twin answers rightly.
    """

    config: Config
    known: Sequence[Row]
    right: Mapping[int, Mapping[str, Sequence[bool]]]
    bits: Sequence[dict[str, Any]]
    grid: Grid
    twin: NDArray[np.bool_] | None

    def at(self, k: int, operation: str) -> Floats:
        return np.asarray(self.right[k][operation], float)

    @property
    def evidence(self) -> dict[str, Any]:
        """What the claims are judged by, question by question: right answers with fewest and most
        places at once, divergences, every cell of the grid; of the known laws their rows."""
        grid, ends = self.grid, (self.config.steps[0], self.config.steps[-1])
        cells = zip(grid.cells, grid.right, grid.passes, strict=True)
        return {
            "known": [dict(row) for row in self.known],
            "right": {
                str(k): {name: np.asarray(some).astype(int) for name, some in self.right[k].items()}
                for k in ends
                if k in self.right
            },
            "bits": [
                {name: row[name] for name in ("task", "bound", "at once", "one by one")}
                for row in self.bits
            ],
            "names": grid.names,
            "cells": [
                {
                    "cell": [cell.policy, cell.value, cell.block],
                    "right": 1 * right,
                    "passes": passes,
                }
                for cell, right, passes in cells
            ],
            "twin": None if self.twin is None else 1 * self.twin,
        }

    @classmethod
    def of(cls, config: Config, evidence: Mapping[str, Any]) -> Findings:
        """What the claims need, from the evidence of a record."""
        rows = {Cell(*one["cell"]): one for one in evidence["cells"]}
        names, twin = evidence["names"], evidence["twin"]
        unused = [0] * len(names)  # places of an answer are shown, and not judged
        grid = Grid.of(rows, config.canvas, unused, names)
        right = {int(k): some for k, some in evidence["right"].items()}
        twin = None if twin is None else np.array(twin, bool)
        return cls(config, evidence["known"], right, evidence["bits"], grid, twin)
