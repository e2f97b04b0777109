"""Logs are never lost, doubled or torn, and nothing that is not ours is touched."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments.harness import resumption
from experiments.harness.files import Lines, read_json, text_lines, whole_text
from experiments.harness.report import Resumption

ROOT = Path(__file__).resolve().parents[3]

FOREIGN = {
    "a last line without its end": b"one\ntwo",
    "no line at all": b"my only copy",
    "another log": b'{"step": 1, "loss": 2.0}\n{"step": 2, "lo',
    "one object": b'{"a": 1}',
    "a pretty object": b'{\n "id": 1\n}\n',
    "bytes": bytes(range(256)),
    "a broken line behind ours": b'{"id": 0}\nnotes of my own\n{"id": ',
    "deep": b'{"id": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_ours_stays_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(FOREIGN[name])
    before = path.stat().st_mtime_ns
    try:
        Lines(path, "id").close()
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 500
    else:
        assert name == "deep"  # as a line of ours may be torn
    assert path.read_bytes() == FOREIGN[name] and path.stat().st_mtime_ns == before


def test_a_log_is_repaired_when_it_is_added_to_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"id": 0}\n{"id": 1, "te')
    with Lines(path, "id") as lines:
        assert lines.records == [{"id": 0}]
        assert path.read_bytes().endswith(b"te")
        lines.append({"id": 1})
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))  # torn between a line and its end
    with Lines(path, "id") as lines:
        assert lines.records == [{"id": 0}, {"id": 1}]
        lines.append({"id": "\ud800"})
    with Lines(path, "id") as lines:
        assert [record["id"] for record in lines.records] == [0, 1, "\ud800"]


def test_lines_that_others_wrote(tmp_path: Path) -> None:
    """With an editor's mark, blank lines at the end, any kind of line end, gzipped or not."""
    content = "\ufeffone\r\n\ntwo\u2028 \x0c\n\n \n".encode()
    for name in ("a.txt", "a.txt.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert list(text_lines(path)) == [(1, "one"), (2, ""), (3, "two\u2028 \x0c")]
    odd = {
        "torn.gz": (gzip.compress(content)[:-9], "is no whole gzip file"),
        "plain.gz": (content, "is no whole gzip file"),
        "wide.txt": ("one".encode("utf-16"), "wide.txt:1: the text is UTF-16; store it as UTF-8"),
        "latin.txt": (b"one\n\xe9", "latin.txt:2: 'utf-8' codec"),
    }
    for name, (data, message) in odd.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            list(text_lines(path))
    with pytest.raises(ValueError, match="is no file"):
        list(text_lines(tmp_path))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\xff")
    with pytest.raises(ValueError, match=r"a\.txt: 'utf-8' codec"):
        whole_text(tmp_path / "a.txt")


@pytest.mark.parametrize("place", ["/dev/full", "/dev/zero", "."])
def test_a_log_is_a_regular_file(place: str) -> None:
    with pytest.raises(ValueError, match="is no regular file"):
        Lines(Path(place), "id")
    with pytest.raises(ValueError, match="is no regular file"):
        read_json(Path(place))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Lines(path, "id") as lines:
        with pytest.raises(ValueError, match=r"log\.jsonl is being written by") as error:
            Lines(path, "id")
        if Path("/proc/locks").exists():
            assert f"process {os.getpid()} on " in str(error.value)
        lines.append({"id": 0})
    with Lines(path, "id") as lines:
        assert lines.records == [{"id": 0}]


@dataclass(frozen=True)
class Config:
    seed: int = 0
    out: Path | None = None


def test_a_foreign_log_in_an_experiments_folder_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n')  # as training writes it
    with pytest.raises(ValueError, match="none of ours"):
        Resumption(Config(out=tmp_path))
    assert path.read_text() == '{"step": 1, "loss": 3.0}\n'


WRITER = """
import sys, time
from pathlib import Path
from experiments.harness.files import Lines
with Lines(Path(sys.argv[1]), "id") as lines:
    for i in range(len(lines.records), 300):
        lines.append({"id": i, "text": "word " * (1 + i % 40)})
        time.sleep(0.0005)
"""


def test_killed_a_dozen_times_on_a_disk_that_fills(tmp_path: Path) -> None:
    """At random moments, with a limit on the file's size now and then: no line lost or doubled."""
    path, rng = tmp_path / "log.jsonl", random.Random(0)
    whole = [{"id": i, "text": "word " * (1 + i % 40)} for i in range(300)]
    kept = 0
    for turn in range(12):
        most = kept + rng.randint(1, 3000) if turn % 3 == 2 else resource.RLIM_INFINITY

        def limit(most: int = most) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            cwd=ROOT,
            preexec_fn=limit,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 30
        while process.poll() is None and path_size(path) <= kept and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.wait()
        content = path.read_bytes()
        records = [json.loads(line) for line in content.split(b"\n")[:-1]]
        assert records == whole[: len(records)], f"kill {turn}"
        assert len(content) >= kept, "nothing that was there is gone"
        kept = content.rfind(b"\n") + 1
    subprocess.run([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, check=True)
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == whole


def path_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_flags_that_change_between_kills_lose_nothing(tmp_path: Path, monkeypatch) -> None:
    """A row that was measured is never measured again, whatever came in between."""
    monkeypatch.setattr(resumption, "ROOT", tmp_path)
    rng, measured = random.Random(1), []

    def run(config: Config, rows: int) -> None:
        kept = Resumption(config)
        for i in range(rows):
            key = f"{config.seed}/{i}"
            assert kept.row(key, lambda key=key: measured.append(key) or {"key": key})["key"] == key
        assert kept._lines is not None
        kept._lines.close()  # killed: its end is never written

    for _ in range(20):
        run(replace(Config(out=tmp_path), seed=rng.randint(0, 3)), rng.randint(0, 6))
    assert len(measured) == len(set(measured)) > 6
