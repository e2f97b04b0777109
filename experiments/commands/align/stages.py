"""The stages of a run, one bar each, and what a run's folder remembers of its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.harness.files import plain, read_json, write_atomically
from experiments.harness.progress import Progress
from jaxdecode.distributed import primary

SETTINGS = "settings.json"
SHOWN = ("kl", "reward", "beta", "loss", "accuracy", "line")


class Stages:
    """Shows each stage as it is told of; a `Watcher` of `algorithms.alignment.course`."""

    def __init__(self) -> None:
        self.stage, self._bar = "", None

    def __call__(self, stage: str, done: int, of: int, told: Mapping[str, float]) -> None:
        if self._bar is None or (stage, of) != (self.stage, self._bar.total):
            self.close()
            self.stage, self._bar = stage, Progress(stage, of)
            self._bar.__enter__()
        note = ", ".join(f"{name} {told[name]:.3g}" for name in SHOWN if name in told)
        if done > self._bar.done:
            self._bar.advance(done - self._bar.done, note)
        if done >= of:
            self.close()

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.__exit__()
            self._bar = None

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Take a folder for a run, or go on with the run in it.

    Raises:
      ValueError: it holds another run, naming what differs.
    """
    path, mine = out / SETTINGS, json.loads(json.dumps(plain(settings)))
    if path.is_file():
        there = read_json(path)
        odd = [name for name in {**there, **mine} if there.get(name) != mine.get(name)]
        if odd:
            differ = ", ".join(
                f"{name} ({there.get(name)!r} there, {mine.get(name)!r} here)" for name in odd
            )
            raise ValueError(
                f"--out {out} holds another run: it differs in {differ}; choose another folder, or "
                "remove it"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is there and holds no run of align; choose another folder")
    elif primary():
        write_atomically(path, json.dumps(mine, indent=1) + "\n")
