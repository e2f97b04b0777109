"""The experiment runs, theory comes out as published, and its statistics are what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from algorithms.alignment.procedures import BestOf
from experiments.infalign import PRESETS, at_kl, frontier_claim, resamples, run
from experiments.infalign_theory import frontier, heteroscedastic


def test_smoke_trains_and_judges(tmp_path) -> None:
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    rows = {part: [row for row in report.rows if row["part"] == part] for part in PARTS}
    assert {row["method"] for row in rows["trained"]} == {"raw", "identity"}
    assert all(row["kl"] > 0 and 0 < row["best-of-4, judge"] < 1 for row in rows["trained"])
    # What needs no training holds at any size.
    assert all(claim.holds for claim in report.claims[:3])
    assert report.claims[3].claim.startswith("hacked") and report.claims[4].holds
    assert (tmp_path / "figure.png").stat().st_size > 10_000


PARTS = ("analytic", "tables", "trained")


def test_tables_whose_scales_differ() -> None:
    """Standard, best-of-4 and worst-of-4 at a mean KL of 1, about as in other draws."""
    found = {row["method"]: row for row in heteroscedastic(200, 64, 1.0, 4, seed=0)}
    for method, expected in {
        "raw": (0.733, 0.757, 0.778),
        "identity": (0.864, 0.867, 0.974),
        "log": (0.862, 0.854, 0.986),
        "exp(10)": (0.801, 0.921, 0.773),
        "-exp(-10)": (0.847, 0.803, 0.992),
    }.items():
        row = [found[method][name] for name in ("standard", "best-of-4", "worst-of-4")]
        assert row == pytest.approx(expected, abs=0.06 if method == "raw" else 0.015), method


def test_curves_are_read_at_equal_kl() -> None:
    runs = [
        {"method": "a", "aim": 1.0, "kl": [1.0] * 8, "best": [0.7] * 8},
        {"method": "a", "aim": 0.5, "kl": [0.5] * 8, "best": [0.6] * 8},
    ]
    index = resamples(8, 0)
    for kl, win in ((0.25, 0.55), (0.5, 0.6), (0.75, 0.65), (2.0, 0.7)):
        np.testing.assert_allclose(at_kl(runs, "a", "best", kl, index), win)


def test_a_policy_above_the_frontier_is_caught() -> None:
    bounds = {"best": frontier(BestOf(4), 1.0)}
    assert np.interp(0.5, *bounds["best"]) == pytest.approx(0.8733, abs=5e-3)
    for win, holds in ((0.86, True), (0.95, False)):
        runs = [{"method": "a", "aim": 0.5, "kl": [0.5] * 8, "best": [win] * 8}]
        (claim,) = frontier_claim(runs, bounds, 0)
        assert claim.holds == holds


def test_a_method_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="methods: 'guess' is none of raw, identity"):
        run(dataclasses.replace(PRESETS["smoke"], methods=("guess",)))
