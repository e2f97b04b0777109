"""Verdicts follow their statistics, and a record that cannot be trusted is caught."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.commands.report import ledger, renewal
from experiments.harness.entries import Entry, entries
from experiments.harness.environment import ROOT
from experiments.harness.judging import code_age, rejudging
from experiments.harness.judging.claim import Claim, above, below
from experiments.harness.judging.rejudging import differences, rejudged
from experiments.harness.report import Out, Report, Seed
from experiments.harness.running import settings
from experiments.harness.statistics import bootstrap, difference, points

CLEAN = {"commit": "0123456789ab"}
KNOWN = {"thing": Entry("thing", "experiments.thing", "", ("cpu",))}


@dataclass(frozen=True)
class Config:
    """A thing."""

    size: int = 8
    seed: Seed = 0
    out: Out = None


def claims(config: Config, evidence: list[dict[str, Any]]) -> list[Claim]:
    """That a series rises at every step, by what is measured of each unit."""
    series = [row["units"] for row in evidence]
    steps = [difference(b, a, "tokens") for a, b in pairwise(series)]
    return [Claim.tested("it rises", "rising", *(above(step, "0 tokens") for step in steps))]


def made(*means: float, **changed: Any) -> Report:
    """A record whose series has these means, over eight units."""
    wobble = np.linspace(-0.4, 0.4, 8)
    evidence = [{"units": mean + wobble * (1 + i / 8)} for i, mean in enumerate(means)]
    report = Report.of(claims, Config(), evidence)
    facts: dict[str, Any] = {"experiment": "thing", "preset": "cpu", "environment": CLEAN}
    return dataclasses.replace(report, **facts | {"settings": settings(Config())} | changed)


@pytest.fixture(autouse=True)
def thing(monkeypatch) -> None:
    module = SimpleNamespace(claims=claims, PRESETS={"cpu": Config()})
    real = rejudging.importlib.import_module
    monkeypatch.setattr(
        rejudging.importlib,
        "import_module",
        lambda name: module if name == "experiments.thing" else real(name),
    )
    for where in (rejudging, renewal):
        monkeypatch.setattr(where, "entries", lambda: KNOWN)


def test_a_record_names_files_of_the_project_by_their_place_in_it(tmp_path: Path) -> None:
    """So that it is the same record in any checkout."""

    @dataclass(frozen=True)
    class Reading:
        own: Path = ROOT / "experiments" / "inputs" / "real_texts.jsonl"
        other: Path = tmp_path / "x.jsonl"

    assert settings(Reading()) == {
        "own": "experiments/inputs/real_texts.jsonl",
        "other": str(tmp_path / "x.jsonl"),
    }


def test_a_series_that_falls_once_fails_and_a_flat_one_is_not_resolved() -> None:
    assert [made(*means).claims[0].verdict for means in ((1, 2, 3), (1, 3, 2), (1, 2, 2))] == [
        "holds",
        "fails",
        "not resolved",
    ]


def test_a_setting_that_cannot_show_it_decides_nothing() -> None:
    claim = made(1, 3, 2).claims[0]
    assert claim.unless(False, "nothing was learned") == claim
    vain = claim.unless(True, "nothing was learned")
    assert vain.verdict == "not measurable here" and vain.measured.endswith("nothing was learned")


def test_units_are_resampled_together() -> None:
    """What is common to a unit cancels; with two units nothing is known of others."""
    hard = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    gain = difference(hard + 1, hard, "points")
    assert (gain.value, gain.low, gain.high) == (1.0, 1.0, 1.0)
    ratio = bootstrap(lambda a, b: a.sum() / b.sum(), [6, 6, 6], [2, 2, 2], unit="x")
    assert str(ratio) == "3x (3..3)"
    few = Claim.tested("x", "", above(points([1, 1], [0, 0]), "0 points"))
    assert few.verdict == "not measurable here" and "too few units" in few.measured
    with pytest.raises(ValueError, match=r"units: arrays of \[2, 3\] units"):
        bootstrap(lambda a, b: 0.0, [1, 2], [1, 2, 3])


def test_a_mark_in_another_unit_is_refused() -> None:
    gain = points([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])  # 10 points, not 0.1
    assert above(gain, "5 points").passed and not below(gain, "5 points").passed
    for mark in ("0.05", "5 %", "1.05x"):
        with pytest.raises(ValueError, match="state both in one unit"):
            above(gain, mark)
    with pytest.raises(ValueError, match="a number and its unit"):
        above(gain, "points")


def test_the_weakest_of_several_decides() -> None:
    def shifted(by: float):
        return above(difference(np.linspace(by - 1, by + 1, 9), np.zeros(9), "x"), "0x")

    assert Claim.tested("x", "", shifted(3), shifted(5)).interval == pytest.approx(
        (2.6, 3.4), abs=0.1
    )
    verdicts = [
        Claim.tested("x", "", *map(shifted, by)).verdict for by in ((3, 0.1), (0.1, -3), (3, -3))
    ]
    assert verdicts == ["not resolved", "fails", "fails"]
    with pytest.raises(ValueError, match="does not rise"):
        Claim("x", "", "", True, (2.0, 1.0), 0.0)


def test_a_forged_verdict_is_found_by_the_rows(tmp_path: Path, capsys, monkeypatch) -> None:
    report = made(1, 3, 2)
    ledger.write(report, tmp_path)
    path = tmp_path / "thing.json"
    renewal.rejudge(False, tmp_path)
    assert "thing: fails: it rises" in capsys.readouterr().out

    stored = json.loads(path.read_text())
    stored["claims"][0] |= {"holds": True, "interval": [0.5, 1.5]}
    path.write_text(json.dumps(stored))
    assert Report.read(path).claims[0].verdict == "holds"
    with pytest.raises(ValueError, match="1 stored verdicts are not what rules and rows give"):
        renewal.rejudge(False, tmp_path)
    assert "'it rises' is stored as 'holds', and is 'fails'" in capsys.readouterr().out
    monkeypatch.setattr(ledger, "update", lambda: None)
    renewal.rejudge(True, tmp_path)
    assert Report.read(path).claims == report.claims


def test_what_cannot_be_judged_again_says_why() -> None:
    assert rejudged(made(1, 2, 3), KNOWN) == made(1, 2, 3)
    old = dataclasses.replace(made(1, 2, 3), evidence=None)
    assert rejudged(old, KNOWN) == "recorded without its rows"
    assert rejudged(made(1, 2, preset="huge"), KNOWN) == "preset huge is no more"
    assert rejudged(made(1, 2, settings={"size": 9}), KNOWN) == "preset cpu has changed since"
    assert "no such experiment" in str(rejudged(made(1, 2), {}))
    renamed = dataclasses.replace(made(1, 2, 3), claims=[Claim("it falls", "", "", True)])
    assert differences(renamed, made(1, 2, 3)) == [
        "'it rises' is not stored",
        "'it falls' is stored as 'holds', and no rule states it",
    ]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"environment": {"commit": "0123456789ab+", "changed": ["a.py"]}}, "changes in a.py"),
        ({"environment": {"commit": None}}, "made from no commit"),
        ({"settings": {"size": 2}}, "other settings than those of preset cpu"),
        (
            {"claims": [Claim("it is fast", "", "", True, headline=True)]},
            "holds and has no interval",
        ),
    ],
)
def test_an_unfit_run_is_no_record(changed, complaint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ledger, "papers", lambda: {"thing": None})
    ledger.store(made(1, 2, 3), tmp_path / "result.json", tmp_path)
    before = (tmp_path / "thing.json").read_text()
    with pytest.raises(ValueError, match=complaint):
        ledger.store(made(1, 2, 3, **changed), tmp_path / "result.json", tmp_path)
    assert (tmp_path / "thing.json").read_text() == before


def test_a_bench_that_claims_nothing_can_be_a_record() -> None:
    bench = dataclasses.replace(made(1, 2, 3), claims=[])
    rejudging.refuse_unfit(bench, paper=False)


def test_a_record_keeps_six_digits_a_line_each_part_and_is_judged_by_them(tmp_path: Path) -> None:
    report = made(1.23456789, 2, 3)
    ledger.write(report, tmp_path)
    lines = (tmp_path / "thing.json").read_text().splitlines()
    assert sum('{"units":[' in line for line in lines) == 3
    assert '{"units":[0.834568,' in "".join(lines)
    assert Report.read(tmp_path / "thing.json") == dataclasses.replace(report, rows=[])


def test_an_experiments_files_are_its_own_and_its_methods() -> None:
    files = code_age.own_files("experiments.speculative.dyspec.main", ROOT)
    assert "experiments/speculative/dyspec/findings.py" in files
    assert "experiments/speculative/trees.py" in files
    assert "algorithms/speculative/dyspec.py" in files
    assert not any(file.startswith(("experiments/harness", "jaxdecode")) for file in files)
    assert not any("rsd" in file for file in files if file.startswith("experiments"))
    unknown = made(1, 2, environment={"commit": "ffffffffffff"})
    assert code_age.age(unknown, "experiments.speculative.dyspec.main") is None


def test_a_verdict_says_what_it_stands_on() -> None:
    assert ledger.over_units(made(1, 2, 3).claims[0]).startswith("holds (0.977")
    assert ledger.over_units(Claim("", "", "", True)) == "holds, no interval kept"
    assert ledger.over_units(Claim("", "", "", None)) == "not measurable here"


def test_every_record_gives_its_verdicts_again(monkeypatch) -> None:
    monkeypatch.undo()
    known = entries()
    for report in renewal.records():
        if report.evidence is not None:
            now = rejudged(report, known)
            assert isinstance(now, Report), now
            assert differences(report, now) == []
