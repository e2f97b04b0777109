"""The tour shows what it says it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.commands.demo.main import PRESETS, run
from experiments.harness.report import Report
from experiments.harness.running import run_main


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    run_main(run, PRESETS, ["--preset", "smoke", "--out", str(folder)])
    return folder


def test_every_method_is_on_the_page(out: Path) -> None:
    report = Report.read(out / "result.json")
    text = (out / "index.html").read_text()
    assert len(report.rows) == len(PRESETS["smoke"].shipped.sizes) + 1 + 4
    for row in report.rows:
        assert str(row["method"]) in text
    assert text.count("data:image/png;base64,") == 1 and "<script" not in text


def test_costs_are_counted(out: Path) -> None:
    dialog = [row for row in Report.read(out / "result.json").rows if row["task"] == "dialog"]
    one, four, rejection = [row["tokens decoded"] for row in dialog]
    assert 0 < one < four and rejection > 0
    assert dialog[2]["peak cache, tokens"] < 8 * 64, "within its budget"
    for row in dialog:
        assert row["tokens judged"] >= row["tokens decoded"]
        assert row["seconds, all prompts"] > 0 and row["GFLOPs"] > 0
