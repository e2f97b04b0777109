"""The experiment on STAND, at its smallest."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from experiments.speculative.stand.findings import claims
from experiments.speculative.stand.main import PRESETS, run
from experiments.speculative.stand.measures import overlap
from experiments.speculative.stand.setting import Config


def test_overlap_counts_repeated_ngrams() -> None:
    texts = [np.array(t) for t in ([1, 2, 3, 4], [1, 2, 3, 9], [9, 9], [2, 3, 9, 9])]
    assert overlap(texts, 2) == [pytest.approx(2 / 3), 0.0, 1.0]
    assert overlap(texts[:2], 4) == [0.0]
    assert np.isnan(overlap(texts, 4)[1])  # a sample of two tokens has no 4-gram


def test_half_the_accuracy_is_not_as_often_right() -> None:
    counts = {"emitted": [60] * 8, "passes": [20, 21, 19, 20] * 2, "draft_passes": [0] * 8}
    row: dict[str, Any] = {"by problem": {"all": counts, "first": counts, "last": counts}}
    row |= {"tokens_per_call": 3.0, "first": 3.0, "last": 3.0}
    names = ("token recycling", "STAND, drawn tokens, fitted tree")
    names += ("STAND, likeliest tokens", "STAND, drawn tokens")
    plain = {"right": [12, 10, 14, 12] * 2, "samples": 16}
    half = {"right": [6, 5, 7, 6] * 2, "samples": 16}
    evidence = {"methods": {name: row for name in names}, "plain": plain}
    *_, same = claims(Config(), evidence | {"shared": plain})
    *_, worse = claims(Config(), evidence | {"shared": half})
    assert (same.verdict, worse.verdict) == ("holds", "fails")


def test_smoke(tmp_path) -> None:
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    more, rises, _, _, lossless = report.claims
    # Three problems show that it gains; how much takes more of them.
    assert more.interval is not None and more.interval[0] > 1
    assert rises.holds and lossless.interval is not None
    assert (tmp_path / "figure.png").stat().st_size > 10_000
