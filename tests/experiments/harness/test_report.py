"""Files are whole or absent, reports survive the disk, killed runs go on where they stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.harness import resumption
from experiments.harness.environment import environment
from experiments.harness.files import Lines, plain, read_json, write_atomically
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure
from experiments.harness.running import run_main
from experiments.harness.tables import cell, markdown
from tests.experiments.forking import finished, start, wait


@dataclass(frozen=True)
class Config:
    """Squares."""

    sizes: tuple[int, ...] = (1, 2)
    factor: float = 1.0
    seed: Seed = 0
    out: Out = None


def squares(config: Config) -> Report:
    with Resumption(config) as kept:
        rows = [
            kept.row(str(n), lambda n=n: {"n": n, "square": config.factor * n * n})
            for n in config.sizes
        ]
    grows = rows[-1]["square"] > rows[0]["square"]
    return Report([Claim("squares grow", "yes", cell(grows), grows)], rows, seconds=kept.seconds)


PRESETS = {"smoke": Config(), "cpu": Config(sizes=(1, 2, 3))}


def main(out: Path, *arguments: str) -> Report:
    run_main(squares, PRESETS, ["--out", str(out), *arguments])
    return Report.read(out / "result.json")


def test_a_run_is_stored_whole(tmp_path: Path) -> None:
    report = main(tmp_path, "--preset", "cpu", "--seed", "3", "--config.factor", "2")
    assert [row["square"] for row in report.rows] == [2.0, 8.0, 18.0]
    assert (report.preset, report.seed, report.holds) == ("cpu", 3, True)
    assert report.environment == plain(environment())
    table = (tmp_path / "table.md").read_text()
    assert "| squares grow | yes | yes | holds |" in table and "| 3 | 18 |" in table
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.jsonl",
        "result.json",
        "table.md",
    ]


def test_strict_exits_1_for_a_claim_that_fails(tmp_path: Path) -> None:
    main(tmp_path, "--strict")
    with pytest.raises(SystemExit) as stop:
        main(tmp_path, "--strict", "--config.factor", "-1")
    assert stop.value.code == 1
    assert not Report.read(tmp_path / "result.json").holds


@pytest.mark.parametrize("flags", [["--preset", "huge"], ["--config.sise", "1"], ["--seed", "x"]])
def test_a_wrong_flag_is_refused(tmp_path: Path, flags: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(tmp_path / "out", *flags)
    assert stop.value.code == 2
    assert flags[0] in "".join(capsys.readouterr())
    assert not (tmp_path / "out").exists()


def test_the_environment_names_no_host() -> None:
    assert os.uname().nodename not in json.dumps(environment())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"experiment": "x", "cla', "no JSON"),
        ("[1]", "holds a list"),
        ('{"experiment": "x"}', "missing"),
        ('{"claims": [{"claim": "x"}], %s}', "malformed"),
    ],
)
def test_a_half_written_result_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    rest = '"rows": [], "experiment": "", "preset": "", "seed": 0, "seconds": 0, "environment": {}'
    path = tmp_path / "result.json"
    path.write_text(text.replace("%s", rest))
    with pytest.raises(ValueError, match=complaint) as error:
        Report.read(path)
    assert str(path) in str(error.value)


def test_lines_cut_a_torn_tail_and_refuse_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": "\xc3')
    with Lines(path, "a") as lines:
        assert lines.records == [{"a": 1}, {"a": 2}]
        lines.append({"a": "ä"})
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"a": 2}\n{"a": "ä"}\n'
    path.write_bytes(b'{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl:2 is no JSON"):
        Lines(path, "a")


@pytest.mark.parametrize("torn", [b"", b'{"a'])
def test_lines_of_which_none_is_whole(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(torn)
    with Lines(path, "a") as lines:
        assert lines.records == []
        lines.append({"a": 1})
    assert path.read_text() == '{"a": 1}\n'


def test_values_as_json_has_them() -> None:
    stored = plain({"x": np.float32(0.5), "y": np.arange(2), "z": [float("nan")], 1: Path("a")})
    assert stored == {"x": 0.5, "y": [0, 1], "z": [None], "1": "a"}
    with pytest.raises(ValueError, match="cannot be stored"):
        plain(object())


def test_tables_round_and_escape() -> None:
    table = markdown([{"a": 0.123456, "b": "x|y\nz"}, {"a": None, "c": True}])
    assert table.splitlines()[2:] == ["| 0.1235 | x\\|y z |  |", "|  |  | yes |"]
    assert markdown([]) == ""


def resumed(config: Config) -> tuple[int, list[str]]:
    """How many rows had to be measured, and the keys in the file."""
    calls: list[int] = []
    with Resumption(config) as kept:
        for n in config.sizes:
            kept.row(str(n), lambda n=n: calls.append(n) or {"n": n})
    assert config.out is not None
    with Lines(config.out / "metrics.jsonl", "fingerprint") as lines:
        return len(calls), [line.get("key", "") for line in lines.records]


def test_a_journal_measures_only_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(resumption, "ROOT", tmp_path)
    config = Config(sizes=(1, 2, 3), out=tmp_path)
    assert resumed(config) == (3, ["", "1", "2", "3", ""])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:10])  # killed within the third row
    assert resumed(config) == (1, ["", "1", "2", "3", ""])
    assert resumed(config) == (3, ["", "1", "2", "3", ""]), "a finished run is measured again"
    path.write_bytes(b"".join(lines[:3]))
    assert resumed(replace(config, factor=3.0))[0] == 3, "another configuration starts anew"
    (aside,) = tmp_path.glob("metrics.*.jsonl")
    assert aside.read_bytes() == b"".join(lines[:3]), "what it had is kept"
    assert resumed(config)[0] == 1 and not aside.exists(), "and taken up"
    path.write_bytes(b"".join(lines[:3]))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "new.py").write_text("x = 1")
    assert resumed(config)[0] == 3, "other code starts anew"


def slow(root: Path, out: Path) -> None:
    """An experiment of six rows, as a command line; `root` is where its code is looked for."""
    resumption.ROOT = root  # whose code is not being edited meanwhile

    def run(config: Config) -> Report:
        def measure(n: int) -> dict[str, int]:
            time.sleep(0.15)
            return {"n": n}

        with Resumption(config) as kept:
            return Report([], [kept.row(str(n), lambda n=n: measure(n)) for n in config.sizes])

    run_main(run, {"smoke": Config(sizes=tuple(range(6)))}, ["--out", str(out)])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_goes_on(tmp_path: Path, number: int) -> None:
    root, out, said = (tmp_path / name for name in ("root", "out", "said"))
    root.mkdir()
    process = start(slow, root, out, said=said)
    log = out / "metrics.jsonl"
    wait(lambda: log.is_file() and log.read_bytes().count(b"\n") >= 3, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    kept = log.read_bytes().splitlines()[1:3]
    assert not (out / "result.json").exists()
    if number == signal.SIGKILL:
        assert process.exitcode == -number
    else:
        assert process.exitcode == 128 + number and "stopped" in said.read_text()
        assert "Traceback" not in said.read_text()
    assert finished(slow, root, out) == 0
    assert log.read_bytes().splitlines()[1:3] == kept
    assert [row["n"] for row in read_json(out / "result.json")["rows"]] == list(range(6))


def test_a_figure_is_drawn_and_stored(tmp_path: Path) -> None:
    def draw(path: Path | None) -> Sequence[float]:
        with figure(path, columns=2) as (left, right):
            left.plot([0, 1], [0, 1], label="a line")
            right.bar([0], [1])
        assert left.get_legend() is not None and right.get_legend() is None
        return left.get_xlim()

    draw(None)
    assert list(tmp_path.iterdir()) == []
    draw(tmp_path / "figure.png")
    image = imread(tmp_path / "figure.png")
    assert image.shape[1] > image.shape[0] > 300
    assert image.std() > 0.05, "something is drawn"
    first = (tmp_path / "figure.png").read_bytes()
    draw(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == first


def test_a_figure_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "figure.png") as (axis,):
        axis.plot([1 / 0])
    assert list(tmp_path.iterdir()) == []
