"""What the experiment on Learn2PD found, and what of it a record keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.diffusion.canvas_ground import ratio
from experiments.diffusion.learn2pd.setting import LISTS, Config


@dataclass(frozen=True)
class Findings:
    """Everything measured.

    Attributes:
      names: the task of every question, validation questions first.
      traces: what the oracle met.
      taught: filters and how they judge.
      found: what each way of decoding came to, on validation and test questions.
      tuned: the chosen threshold and filter.
      long: on canvases of several lengths.
      orders: of one question, by method, see `commit_order.seen`.
    """

    config: Config
    names: Sequence[str]
    traces: Mapping[str, Any]
    taught: Mapping[str, Mapping[str, Any]]
    found: Mapping[str, Mapping[str, Any]]
    tuned: Mapping[str, str]
    long: Mapping[str, Mapping[str, Any]]
    orders: Mapping[str, Mapping[str, Any]]

    def test(self, name: str) -> dict[str, Any]:
        """What a method came to on test questions."""
        first = self.config.tuning
        keys = ("right", "passes", "tokens")
        return {key: np.asarray(self.found[name][key][first:], float) for key in keys}

    def gain(self, name: str, places: int, what: str = "tokens") -> tuple[float, ...]:
        """How many times fewer than static decoding on a canvas of this length."""
        return ratio(
            self.long[f"static, {places} places"][what], self.long[f"{name}, {places} places"][what]
        )

    @property
    def evidence(self) -> dict[str, Any]:
        """What the claims are judged by, question by question."""

        def whole(one: Mapping[str, Any], *keys: str) -> dict[str, list[int]]:
            return {key: np.asarray(one[key]).astype(int).tolist() for key in keys}

        lengths = self.config.lengths
        wanted = [f"{name}, {n} places" for n in lengths for name in ("static", "filter", "ends")]
        wanted += [f"ends, dual, {lengths[-1]} places"]
        judged = [*dict.fromkeys(["static", *self.tuned.values(), "by of lists"])]
        return {
            "passes": self.traces["passes"],
            "tuned": dict(self.tuned),
            "test": {
                name: whole(self.test(name), "right", "passes")
                for name in judged
                if name in self.found
            },
            "long": {name: whole(self.long[name], "right", "passes", "tokens") for name in wanted},
            "lists": [int(name == LISTS) for name in self.names[self.config.tuning :]],
        }
