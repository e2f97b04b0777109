"""An aligning run is killed once, for real; the verdicts see what does not survive."""

from __future__ import annotations

import pytest

from experiments.bench import resilience
from experiments.bench.resilience import PRESETS, run


def test_a_killed_aligning_run_ends_with_the_same_weights() -> None:
    report = run(PRESETS["smoke"])
    (row,) = report.rows
    assert row["died of the kill"] and row["same weights"]
    assert report.holds and report.claims[0].measured.startswith("1 of 1")


def test_other_weights_and_other_curves_fail() -> None:
    rows = [
        {"same weights": same, "died of the kill": died, "went on from": 5}
        for same, died in ((True, True), (False, True), (True, False))
    ]
    assert resilience._survived(rows[:1]).holds
    assert not resilience._survived(rows[:2]).holds
    assert not resilience._survived([rows[0], rows[2]]).holds
    told = {"loss": [0.1, 0.2], "reward": [1.0, 1.0], "kl": [0.0, 0.1]}
    near, far = ({**told, "kl": [0.0, 0.1 + gap]} for gap in (1e-6, 1e-3))
    found = {"one device": told, "4 x 2 devices": near, "two processes": far}
    claims = resilience._compared(found)
    assert [claim.holds for claim in claims] == [True, False]
    assert "1.0e-03" in claims[1].measured


def test_a_run_that_fails_says_what_it_said(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="steps=0: at least one step is needed"):
        resilience.finish(resilience.start(tmp_path, 0, 5))
