"""What the experiment on Mirostat found: its table, and what of it a record keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.tokens.mirostat.measures import GRAMS, Config, Row
from experiments.tokens.open_texts import interval

Floats = NDArray[np.float64]
CONTROLLED = ("mirostat", "mirostat 1", "slow", "llama.cpp")
CURVES = ("top-k", "top-p", "mirostat", "mirostat 1")
SENTENCE = 6  # tokens in a row that make a repeated sentence
LOOPS = f"rep-{SENTENCE}"


@dataclass(frozen=True)
class Findings:
    """What was measured, or what a record kept of it; the units are contexts.

    Attributes:
      rows: family -> setting -> what was measured.
      greedy: of greedy text.
    """

    config: Config
    rows: dict[str, dict[float, Row]]
    greedy: Row

    @classmethod
    def of(cls, config: Config, evidence: dict[str, Any]) -> Findings:
        """From the evidence of a record."""
        rows = {
            family: {float(setting): row for setting, row in settings.items()}
            for family, settings in evidence.items()
            if family != "greedy"
        }
        return cls(config, rows, evidence["greedy"])

    @property
    def evidence(self) -> dict[str, Any]:
        """What the claims are judged by: of each text its surprise, and where a claim asks for
        them its repetition and its drift."""

        def kept(family: str, setting: float, row: Row) -> Row:
            names = ["bits"]
            names += ["rep-1", LOOPS] if family in CURVES else []
            judged = self.within if family == "mirostat" else self.outer(family)
            names += ["drift"] if setting in judged else []
            return {name: row[name] for name in names}

        families = {
            family: {
                f"{x:g}": kept(family, x, row)
                for x, row in settings.items()
                if family != "llama.cpp" or x in self.within
            }
            for family, settings in self.rows.items()
            if family != "slow"
        }
        return {"greedy": {"bits": self.greedy["bits"]}} | families

    def values(self, family: str, setting: float, name: str = "bits") -> Floats:
        return np.asarray(self.rows[family][setting][name], np.float64)

    def mean(self, family: str, setting: float, name: str = "bits") -> float:
        return float(np.mean(self.rows[family][setting][name]))

    def stacked(self, name: str, settings: Iterable[tuple[str, float]]) -> Floats:
        """A measure of every context at several settings, f64[contexts, settings]."""
        return np.stack([self.values(*setting, name) for setting in settings], axis=1)

    def outer(self, family: str) -> tuple[float, ...]:
        """The smallest setting of a fixed sampler that samples at all, and the largest."""
        config = self.config
        few = next((float(k) for k in config.ks if k > 1), float(config.ks[0]))
        ends = {"top-p": (config.ps[0], config.ps[-1]), "top-k": (few, float(config.ks[-1]))}
        return ends.get(family, ())

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
