"""The experiment on STAND, at its smallest."""

import dataclasses

import numpy as np
import pytest

from experiments.speculative.stand.main import PRESETS, run
from experiments.speculative.stand.measures import differ, overlap


def test_overlap_counts_repeated_ngrams() -> None:
    texts = [np.array(t) for t in ([1, 2, 3, 4], [1, 2, 3, 9], [9, 9], [2, 3, 9, 9])]
    assert overlap(texts, 2) == [pytest.approx(2 / 3), 0.0, 1.0]
    assert overlap(texts[:2], 4) == [0.0]
    assert np.isnan(overlap(texts, 4)[1])  # a sample of two tokens has no 4-gram


def test_shares_differ_by_the_pooled_test() -> None:
    same = {"right": 40, "solutions": 100}
    assert differ(same, same) == 1.0
    # 40 against 60 of 100: z = 0.2 / sqrt(0.25 * 0.02) = 2.83
    assert differ(same, {"right": 60, "solutions": 100}) == pytest.approx(0.00468, abs=1e-4)


def test_smoke(tmp_path) -> None:
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    more, rises, _, _, lossless = report.claims
    assert more.holds and rises.holds and lossless.holds
    assert (tmp_path / "figure.png").stat().st_size > 10_000
