"""An aligning run is killed once, for real; the verdicts see what does not survive."""

from __future__ import annotations

import dataclasses

import pytest

from experiments.bench import resilience
from experiments.bench.resilience import PRESETS, run
from tests.experiments.harness.records import same_again


def test_a_killed_aligning_run_ends_with_the_same_weights(tmp_path) -> None:
    config = dataclasses.replace(PRESETS["smoke"], out=tmp_path)
    report = run(config)
    (row,) = report.rows
    same_again(report, resilience, config)
    assert row["died of the kill"] and row["same weights"]
    assert report.holds and report.claims[0].measured.startswith("1 of 1")


def test_other_weights_and_other_curves_fail() -> None:
    rows = [
        {"same weights": same, "died of the kill": died, "went on from": 5}
        for same, died in ((True, True), (False, True), (True, False))
    ]
    config = PRESETS["cpu"]

    def survived(kills: list) -> bool | None:
        return resilience.claims(config, {"kills": kills, "curves": {}})[0].holds

    assert [survived(some) for some in (rows[:1], rows[:2], rows[::2])] == [True, False, False]
    told = {"loss": [0.1, 0.2], "reward": [1.0, 1.0], "kl": [0.0, 0.1]}
    near, far = ({**told, "kl": [0.0, 0.1 + gap]} for gap in (1e-6, 1e-3))
    found = {"one device": told, "4 x 2 devices": near, "two processes": far}
    _, *claims = resilience.claims(config, {"kills": rows, "curves": found})
    assert [claim.holds for claim in claims] == [True, False]
    assert "1.0e-03" in claims[1].measured


def test_a_run_that_fails_says_what_it_said(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="steps=0: at least one step is needed"):
        resilience.finish(resilience.start(tmp_path, 0, 5))
