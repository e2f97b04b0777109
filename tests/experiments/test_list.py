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

from experiments import catalog, page, readme, summary
from experiments import list as listing
from experiments.catalog import Experiment
from experiments.report import Claim, Report, figure
from jaxdecode.paper import Paper

ROOT = Path(__file__).resolve().parents[2]
EVIL = "<script>alert('x')</script> & <b>"
PAPER = Paper("thing", "A Thing", ("Ada L.",), 2024, "2401.00001", "arXiv", "it works", "exact")


def report(preset: str = "cpu", measured: str = "1.9x", holds: bool = True) -> Report:
    return Report(
        claims=[Claim("it is fast", "2x", measured, holds)],
        rows=[{"n": 1, "text": f"two\nlines {EVIL}"}],
        experiment="thing",
        preset=preset,
        seconds=3.0,
        environment={"jax": "0.10"},
    )


def test_experiments_are_found_by_what_they_define(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(catalog, "papers", lambda: {"thing": PAPER})
    (tmp_path / "thing.py").write_text('"""First line.\n\nMore."""\nPRESETS = {"smoke": 1}\n')
    (tmp_path / "other.py").write_text('PRESETS: dict[str, int] = {"smoke": 1, "cpu": 2}\n')
    (tmp_path / "helper.py").write_text('"""No experiment."""\nPRESET = {"smoke": 1}\n')
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


def test_the_readme_is_stale_until_it_is_written(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"# Top\n{readme.BEGIN}\nold\n{readme.END}\nbelow\n")
    known = {"thing": PAPER}
    monkeypatch.setattr(readme, "papers", lambda: known)
    monkeypatch.setattr(readme, "stored", lambda slug, folder: catalog.stored(slug, tmp_path))
    assert readme.stale(path)
    readme.update(path)
    assert not readme.stale(path)
    assert "| it works |  | not measured yet |" in path.read_text()

    report().write(tmp_path / "run")
    (tmp_path / "run" / "figure.png").write_bytes(b"image")
    readme.store(report(), tmp_path / "run" / "result.json", tmp_path)
    assert (tmp_path / "thing.png").read_bytes() == b"image"
    assert catalog.stored("thing", tmp_path) == replace(report(), rows=[])
    assert readme.stale(path)
    readme.update(path)
    text = path.read_text()
    assert not readme.stale(path)
    assert text.startswith("# Top\n") and text.endswith("below\n")
    row = "| `thing` | [A Thing](https://arxiv.org/abs/2401.00001) (2024) | it is fast | 2x | 1.9x"
    assert f"{row} | yes |" in text
    path.write_text(text.replace("1.9x", "2.1x"))
    assert readme.stale(path)


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END}{readme.BEGIN}", "xyx"])
def test_markers_must_stand_there_once(text: str) -> None:
    twice = text.replace("x", readme.BEGIN).replace("y", readme.END)
    with pytest.raises(ValueError, match="once"):
        readme.rendered(twice, "table")


def test_the_readme_says_what_was_measured() -> None:
    assert not readme.stale()


def test_the_record_can_be_read() -> None:
    for path in catalog.STORED.glob("*.json"):
        assert Report.read(path).experiment == path.stem


def entries() -> list[str]:
    """Modules that are run from the command line."""
    scripts = (ROOT / "experiments").glob("*.py")
    return sorted(
        path.stem for path in scripts if '\nif __name__ == "__main__":' in path.read_text()
    )


@pytest.mark.parametrize("name", entries())
def test_every_script_explains_itself(name: str) -> None:
    module = "experiments" if name == "__main__" else f"experiments.{name}"
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "usage: python -m experiments" in done.stdout and "Traceback" not in done.stderr
