"""What watchers write is read back."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto import event_pb2

from jaxdecode.train.metrics import Events, Progress, several
from tests.jaxdecode.train.problem import EVERY, train

Event, SessionLog = (vars(event_pb2)[name] for name in ("Event", "SessionLog"))


def records(path: Path) -> list[Any]:
    """The events of a file, every checksum held to."""

    def masked(data: bytes) -> int:
        crc = crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    found, data = [], path.read_bytes()
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + size]
        sums = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + size : 16 + size])
        assert sums == (masked(data[:8]), masked(body))
        found.append(Event.FromString(body))
        data = data[16 + size :]
    return found


def test_event_files_hold_what_was_told(tmp_path: Path) -> None:
    """And a run that goes on takes back what the one before told of later steps."""
    told: list[tuple[int, dict[str, float]]] = []
    folder, run = tmp_path / "events", tmp_path / "run"
    for steps in (2 * EVERY, 4 * EVERY):
        events = Events(folder)
        train(run, steps=steps, watch=several(events, lambda s, m: told.append((s, dict(m)))))
        events.close()
    first, second = (records(next(folder.glob(f"*.{step}"))) for step in (EVERY, 3 * EVERY))
    found: dict[int, dict[str, float]] = {}
    for event in (*first, *second):
        for value in event.summary.value:
            found.setdefault(event.step, {})[value.tag] = value.simple_value
    assert found.keys() == {EVERY, 2 * EVERY, 3 * EVERY, 4 * EVERY}
    for step, means in told:
        assert found[step] == pytest.approx(means, rel=1e-6)
    begun = [(e.step, e.session_log.status) for e in second if e.HasField("session_log")]
    assert begun == [(3 * EVERY, SessionLog.START)]


def test_progress_says_how_far_and_how_long() -> None:
    file = io.StringIO()
    watch = Progress(40, "loss", file=file)
    watch(10, {"loss": 1.5, "other": 2.0, "seconds_per_step": 0.5})
    watch(10, {"accuracy": 0.25})
    Progress(40, file=file)(20, {"other": 2.0})
    assert file.getvalue().splitlines() == [
        "10/40  loss 1.5  2 steps/s, 15 s to go",
        "10/40",
        "20/40  other 2",
    ]
