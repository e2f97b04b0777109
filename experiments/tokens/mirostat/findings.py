"""What the experiment on Mirostat found, and its table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.tokens.mirostat.measures import GRAMS, Config, Row
from experiments.tokens.open_texts import interval

Floats = NDArray[np.float64]
CONTROLLED = ("mirostat", "mirostat 1", "slow", "llama.cpp")


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    Attributes:
      rows: family -> setting -> what was measured.
      greedy: of greedy text.
      exponent, vocab: the Zipf exponent of the model's laws, and how many tokens they have.
    """

    config: Config
    rows: dict[str, dict[float, Row]]
    greedy: Row
    exponent: float
    vocab: int

    def bits(self, family: str, setting: float) -> Floats:
        return np.asarray(self.rows[family][setting]["bits"], np.float64)

    def mean(self, family: str, setting: float, name: str = "bits") -> float:
        return float(np.mean(self.rows[family][setting][name]))

    @property
    def floor(self) -> float:
        return float(np.mean(self.greedy["bits"]))

    @property
    def ceiling(self) -> float:
        return self.mean("sampling", 1.0)

    @cached_property
    def within(self) -> tuple[float, ...]:
        """Targets that can be reached."""
        low, high = self.floor + self.config.above, self.ceiling - self.config.below
        return tuple(t for t in self.config.targets if low <= t <= high)

    def drift(self, family: str, setting: float) -> tuple[float, float, float]:
        """Bits of the last quarter less those of the second, with an interval over texts: the
        first follows the context, and mu settles there."""
        parts = np.asarray(self.rows[family][setting]["eighths"], np.float64)
        return interval(parts[:, 6:].mean(axis=1) - parts[:, 2:4].mean(axis=1))

    def alike(self, family: str, target: float) -> float:
        """The setting of a fixed sampler whose texts are nearest to a target."""
        return min(self.rows[family], key=lambda x: abs(self.mean(family, x) - target))

    def table(self) -> list[dict[str, Any]]:
        """One row a setting."""
        out = [("greedy", None, self.greedy)]
        out += [(f, x, row) for f, rows in self.rows.items() for x, row in rows.items()]
        return [
            {
                "sampler": family,
                "setting": setting,
                "bits": np.mean(row["bits"]),
                "low": interval(row["bits"])[1],
                "high": interval(row["bits"])[2],
                "spread": np.std(row["bits"]),
                "reachable": setting in self.within if family in CONTROLLED else None,
                **{f"rep-{n}": np.mean(row[f"rep-{n}"]) for n in GRAMS},
            }
            for family, setting, row in out
        ]
