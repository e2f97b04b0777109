"""The list, the page and the README's table say what is on disk, and say it safely."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments import __main__ as entry_point
from experiments.commands import list as listing
from experiments.commands.report import ledger
from experiments.commands.report import main as summary
from experiments.harness import catalog, page
from experiments.harness.catalog import Experiment, Known
from experiments.harness.entries import entries
from experiments.harness.report import Claim, Report, figure
from jaxdecode.paper import Paper

ROOT = Path(__file__).resolve().parents[3]
EVIL = "<script>alert('x')</script> & <b>"
PAPER = Paper("thing", "A Thing", ("Ada L.",), 2024, "2401.00001", "arXiv", "it works", "exact")


def report(preset: str = "cpu", measured: str = "1.9x", holds: bool = True) -> Report:
    return Report(
        claims=[Claim("it is fast", "2x", measured, holds, (1.8, 2.0), 1.0)],
        rows=[{"n": 1, "text": f"two\nlines {EVIL}"}],
        experiment="thing",
        preset=preset,
        seconds=3.0,
        environment={"jax": "0.10", "commit": "0123456789ab"},
    )


def house(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_experiments_are_found_by_what_they_define(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(catalog, "papers", lambda: {"thing": Known(PAPER, "x.py")})
    house(
        tmp_path,
        {
            "search/thing/main.py": '"""First line.\n\nMore."""\nPRESETS = {"smoke": 1}\n',
            "bench/other.py": 'PRESETS: dict[str, int] = {"smoke": 1, "cpu": 2}\n',
            "bench/helper.py": '"""No experiment."""\nPRESET = {"smoke": 1}\ndef main(): ...\n',
            "commands/show.py": '"""Shows."""\ndef main(arguments): ...\n',
        },
    )
    assert catalog.experiments(tmp_path) == [
        Experiment("other", "", ("smoke", "cpu"), None),
        Experiment("thing", "First line.", ("smoke",), PAPER),
    ]


def test_the_list_tells_paper_claim_presets_and_last_result() -> None:
    found = [
        Experiment("thing", "x", ("smoke", "cpu"), PAPER),
        Experiment("untried", "about it", ("smoke",), None),
    ]
    console = Console(width=240, record=True, file=io.StringIO())
    console.print(listing.table(found, {"thing": report(holds=False)}))
    _, thing, untried = console.export_text().strip().splitlines()
    for part in ("A Thing (2024, arXiv 2401.00001)", "it works", "smoke, cpu", "0/1 claims hold"):
        assert part in thing
    assert "about it" in untried and "not run yet" in untried


def test_everything_on_the_page_is_escaped_and_inside(tmp_path: Path) -> None:
    with figure(tmp_path / "figure.png") as (axis,):
        axis.plot(np.arange(3))
    text = page.page(EVIL, page.result(report(measured=EVIL), tmp_path), page.paragraph(EVIL, EVIL))
    assert "<script" not in text and "alert('" not in text
    assert text.count("&lt;script&gt;") == 6  # title twice, claim, row, paragraph twice
    assert 'src="data:image/png;base64,iVBOR' in text and "http" not in text.replace(
        "http-equiv", ""
    )
    assert "<pre>two\nlines &lt;script" in text


def test_report_gathers_the_newest_of_each_preset(tmp_path: Path, capsys) -> None:
    report("cpu", "old").write(tmp_path / "a")
    report("smoke").write(tmp_path / "b")
    report("cpu", "new").write(tmp_path / "c")
    summary.main([str(tmp_path)])
    assert "2 results" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    assert "new" in text and ">old<" not in text


def test_report_refuses_a_torn_result_and_an_empty_folder(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        summary.main([str(tmp_path)])
    assert "no result.json" in str(stop.value.code)
    (tmp_path / "result.json").write_text('{"claims": [')
    with pytest.raises(SystemExit) as stop:
        summary.main([str(tmp_path)])
    assert "result.json is no JSON" in str(stop.value.code)
    assert capsys.readouterr().out == ""


def test_smoke_is_never_the_record_and_paper_beats_cpu() -> None:
    a, b, c = map(Path, "abc")
    found = {a: report("paper"), b: report("cpu"), c: report("smoke")}
    assert list(summary.record(found, {"thing"})) == [a]
    assert summary.record(found, {"other"}) == {}
    assert list(summary.record({c: found[c]}, {"thing"})) == []
    again = {b: found[b], a: report("cpu", "newest"), c: found[c]}
    assert summary.record(again, {"thing"}) == {a: again[a]}


def test_a_real_model_has_a_record_beside_the_other_and_is_shown_first(tmp_path: Path) -> None:
    a, b = map(Path, "ab")
    found = {a: report("real", "on a real model"), b: report("cpu")}
    assert list(summary.record(found, {"thing"})) == [a, b]
    for kept in found.values():
        ledger.write(kept, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing-real.json", "thing.json"]
    known = {"thing": Known(PAPER, "algorithms/search/thing.py")}
    line = ledger.headlines(known, tmp_path)
    assert "on a real model" in line and "real model" in line.rsplit("|", 2)[1]
    assert all(
        title in ledger.ledger(known, tmp_path) for title in ("## thing\n", "## thing-real\n")
    )


def test_generated_pages_are_stale_until_they_are_written(tmp_path: Path, monkeypatch) -> None:
    path, folder = tmp_path / "README.md", tmp_path / "results"
    path.write_text(f"# Top\n{ledger.BEGIN}\nold\n{ledger.END}\nbelow\n")
    known = {"thing": Known(PAPER, "algorithms/search/thing.py")}
    monkeypatch.setattr(ledger, "papers", lambda: known)
    assert ledger.stale(path, folder) == [path, folder / "README.md"]
    ledger.update(path, folder)
    assert ledger.stale(path, folder) == []
    assert "| it works |  | not measured yet |" in path.read_text()

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figure.png").write_bytes(b"image")
    ledger.store(report(), tmp_path / "run" / "result.json", folder)
    assert (folder / "thing.png").read_bytes() == b"image"
    assert ledger.stale(path, folder) == [path, folder / "README.md"]
    ledger.update(path, folder)
    text = path.read_text()
    assert text.startswith("# Top\n") and text.endswith("below\n")
    row = "| [thing](algorithms/search/thing.py) [2024](https://arxiv.org/abs/2401.00001) "
    assert f"{row}| it is fast | 2x | 1.9x | holds (1.8..2, mark 1) |" in text
    assert "1 claims: 1 holds; 0 in records that kept their rows" in text
    whole = (folder / "README.md").read_text()
    assert "`algorithms/search/thing.py`" in whole and "![thing](thing.png)" in whole
    assert "Recorded without its rows" in whole and "commit `0123456789ab`, seed 0" in whole
    aged = whole.replace("seed 0. ", "seed 0. ") + " <!-- age -->Since then 9.<!-- /age -->"
    (folder / "README.md").write_text(aged)
    assert ledger.stale(path, folder) == []  # commits make it older, and no record changes
    path.write_text(text.replace("1.9x", "2.1x"))
    assert ledger.stale(path, folder) == [path]


def test_the_headline_is_the_marked_claim_or_the_first() -> None:
    first, second = Claim("a", "", "", True), Claim("b", "", "", False)
    assert Report([first, second], []).headline is first
    marked = replace(second, headline=True)
    assert Report([first, marked], []).headline is marked
    long = "word " * 40
    assert len(ledger.brief(long)) <= ledger.LONGEST and ledger.brief(long).endswith("word …")


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (Claim("", "", "", True), "holds"),
        (Claim("", "", "", False), "fails"),
        (Claim("", "", "", None), "not measurable here"),
        (Claim("", "", "", True, (-1.0, 2.0), 0.0), "not resolved"),
        (Claim("", "", "", False, (-1.0, 2.0), 0.0), "not resolved"),
        (Claim("", "", "", True, (0.5, 2.0), 0.0), "holds"),
        (Claim("", "", "", False, (-2.0, -1.0), 0.0), "fails"),
        (Claim("", "", "", True, sanity=True), "sanity"),
        (Claim("", "", "", False, sanity=True), "fails"),
    ],
)
def test_an_interval_that_straddles_the_mark_resolves_nothing(claim, verdict, tmp_path) -> None:
    assert claim.verdict == verdict and verdict in Claim.VERDICTS
    Report([claim], [], experiment="thing").write(tmp_path)
    assert Report.read(tmp_path / "result.json").claims == [claim]
    assert Report([claim], []).holds == (verdict in ("holds", "sanity"))


@pytest.mark.parametrize("text", ["", ledger.BEGIN, f"{ledger.END}{ledger.BEGIN}", "xyx"])
def test_markers_must_stand_there_once(text: str) -> None:
    twice = text.replace("x", ledger.BEGIN).replace("y", ledger.END)
    with pytest.raises(ValueError, match="once"):
        ledger.rendered(twice, "table")


def test_the_generated_pages_say_what_was_measured() -> None:
    assert ledger.stale() == []


def test_the_record_can_be_read() -> None:
    for path in catalog.STORED.glob("*.json"):
        assert catalog.place(Report.read(path)) == path.stem


def test_two_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    house(tmp_path, {"a/x.py": "PRESETS = {}\n", "b/x/main.py": "PRESETS = {}\n"})
    with pytest.raises(ValueError, match=r"'x' is \S+\.a\.x and \S+\.b\.x\.main; rename"):
        entries(tmp_path)


@pytest.mark.parametrize("name", sorted(entries()))
def test_everything_that_can_be_run_explains_itself(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        entry_point.run(entries()[name], ["--help"])
    assert stop.value.code in (0, None)
    assert f"usage: python -m experiments {name}" in capsys.readouterr().out


def test_names_are_listed_and_near_misses_told(monkeypatch, capsys) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in entries())
    monkeypatch.setattr(sys, "argv", ["experiments", "genrate"])
    with pytest.raises(SystemExit, match=r"'genrate' is no experiment.*did you mean generate"):
        entry_point.main()
