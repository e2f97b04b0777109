"""Learn2PD and FreeDave run whole at the size of a smoke test, and show their signs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from experiments.diffusion.freedave import main as freedave
from experiments.diffusion.learn2pd import main as learn2pd
from tests.experiments.harness.records import same_again


def test_a_filter_and_predicted_ends_save_passes(tmp_path: Path) -> None:
    config = replace(learn2pd.PRESETS["smoke"], out=tmp_path)
    report = learn2pd.run(config)
    rows = {row["method"]: row for row in same_again(report, learn2pd, config).rows}
    assert rows["ends"]["passes"] < rows["static"]["passes"]
    assert rows["ends"]["tokens run"] < rows["filter 0.9"]["tokens run"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_drafts_save_passes_and_change_nothing(tmp_path: Path) -> None:
    config = replace(freedave.PRESETS["smoke"], out=tmp_path)
    report = freedave.run(config)
    rows = {row["method"]: row for row in same_again(report, freedave, config).rows}
    assert rows["drafts 4"]["passes"] < rows["static"]["passes"]
    assert rows["drafts 4"]["accuracy"] == rows["static"]["accuracy"]
    assert [claim.holds for claim in report.claims if claim.verdict == "sanity"] == [True, True]
    assert (tmp_path / "figure.png").stat().st_size > 10_000
