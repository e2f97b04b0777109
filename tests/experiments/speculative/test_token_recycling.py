"""The experiment on token recycling, at its smallest."""

import dataclasses

from algorithms.speculative.drafters.token_recycling import TREE
from experiments.speculative.token_recycling import PRESETS, narrow, run


def test_narrow_trees_keep_the_low_ranks() -> None:
    assert narrow(8) == TREE
    chain = narrow(1)
    assert chain == (-1, 0, 1, 2, 3, 4)
    assert max(narrow(2).count(parent) for parent in narrow(2)) == 2


def test_smoke(tmp_path) -> None:
    report = run(dataclasses.replace(PRESETS["smoke"], out=tmp_path))
    better, recycling_all, _ = report.claims
    assert better.holds and recycling_all.holds
    rows = {row["method"]: row for row in report.rows}
    assert rows["token recycling"]["nodes"] == 80 and rows["token recycling"]["pass"] > 1
    assert (tmp_path / "figure.png").stat().st_size > 10_000
