"""Rows become dictionaries by all that tells them apart; claims read the rows that they name."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.harness.statistics import keyed
from experiments.speculative.s2d.findings import claims
from experiments.speculative.s2d.setting import Config


def test_two_rows_of_one_key_are_refused():
    rows = [{"way": "a", "T": 0, "x": 1}, {"way": "a", "T": 1, "x": 2}]
    assert keyed(rows, "way", "T", value="x") == {("a", 0): 1, ("a", 1): 2}
    assert keyed(rows[:1], "way") == {"a": rows[0]}
    with pytest.raises(ValueError, match="two have way = 'a'; name what else"):
        keyed(rows, "way")


def test_thresholds_are_compared_at_the_papers_temperature():
    """At temperature 0 high thresholds cost the small target most; at 1 it is the other way."""
    targets: Any = ("small", "large")
    config = Config(targets=targets, temperatures=(0.0, 1.0))
    speeds = {0.0: {"small": 0.8, "large": 1.1}, 1.0: {"small": 1.3, "large": 0.7}}
    rows = [
        {
            "way": way,
            "target": name,
            "T": T,
            "speed-up": factor,
            "same text": 1.0,
            "by prompt": {"emitted": [100 * factor] * 4, "passes": [100] * 4, "drafting": [0] * 4},
        }
        for T, by_name in speeds.items()
        for name, high in by_name.items()
        for way, factor in (
            ("S2D low", 1.0),
            ("S2D high", high),
            ("SFT 2", 0.9),
            ("SoFT 2", 0.9),
            ("SoFT 4", 0.95),
        )
    ]
    losses = {f"loss_{depth}": 1.0 for depth in config.exits}
    rows += [{"way": f"held-out loss, {kind}"} | losses for kind in ("SFT", "SoFT")]
    (claim,) = (c for c in claims(config, rows) if "high thresholds" in c.claim)
    assert claim.measured == "-20.0 % for small, +10.0 % for large" and claim.holds
