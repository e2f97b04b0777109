"""What the experiment on momentum decoding found: its table, and what of it a record keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.tokens.momentum_decoding.measures import Config, Row
from experiments.tokens.open_texts import interval

Floats = NDArray[np.float64]
PEOPLE = "people"
OWN, OTHER, CONSTANT = "momentum", "contrastive search", "momentum, constant"


@dataclass(frozen=True)
class Findings:
    """What was measured, or what a record kept of it; the units are contexts.

    Attributes:
      rows: method -> its measures, people's text among them.
      ratios: method -> seconds over greedy decoding's, round by round.
    """

    config: Config
    rows: dict[str, Row]
    ratios: dict[str, Floats]

    @classmethod
    def of(cls, config: Config, evidence: dict[str, Any]) -> Findings:
        """From the evidence of a record."""
        ratios = {name: np.asarray(r, np.float64) for name, r in evidence["ratios"].items()}
        rows = {name: row for name, row in evidence.items() if name != "ratios"}
        return cls(config, rows, ratios)

    @property
    def evidence(self) -> dict[str, Any]:
        """What the claims are judged by: text by text, and of the times round by round."""
        written = ("diversity", "rep-4", "coherence", "likeliest", "passes", "read")
        names = {
            PEOPLE: ("diversity", "rep-4"),
            "greedy": ("diversity", "passes", "read"),
            OWN: written,
            OTHER: written,
            self.nucleus: ("coherence",),
            CONSTANT: ("diversity",),
        }
        kept = {who: {name: self.rows[who][name] for name in names[who]} for who in names}
        return kept | {"ratios": {name: self.ratios[name] for name in (OWN, OTHER)}}

    def values(self, method: str, name: str) -> Floats:
        return np.asarray(self.rows[method][name], np.float64)

    def mean(self, method: str, name: str) -> float:
        return float(np.mean(self.values(method, name)))

    @property
    def nucleus(self) -> str:
        return f"nucleus {self.config.top_p:g}"

    def table(self) -> list[dict[str, Any]]:
        """One row a method."""
        return [
            {
                "method": name,
                "diversity": interval(row["diversity"])[0],
                "low": interval(row["diversity"])[1],
                "high": interval(row["diversity"])[2],
                "pooled diversity": row["pooled"],
                **{f"rep-{n}": self.mean(name, f"rep-{n}") for n in (2, 3, 4)},
                "different tokens": self.mean(name, "different"),
                "coherence": self.mean(name, "coherence"),
                "likeliest tokens": self.mean(name, "likeliest") if "likeliest" in row else None,
                "passes a token": row.get("passes"),
                "tokens read a token": row.get("read"),
                "FLOPs a token": row.get("flops"),
                "seconds over greedy": (
                    float(np.median(self.ratios[name])) if name in self.ratios else None
                ),
                "sample": row.get("sample"),
            }
            for name, row in self.rows.items()
        ]
