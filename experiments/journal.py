"""A journal of finished measurements, by which a killed run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.environment import ROOT
from experiments.files import Lines, plain


def fingerprint(config: Any) -> str:
    """Hash of a configuration and of the code that gives it meaning.

    The fields `out` and whatever starts with `_` do not count.
    """
    settings = {
        field.name: repr(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.name != "out" and not field.name.startswith("_")
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for house in ("jaxdecode", "models", "algorithms", "experiments"):
        for path in sorted((ROOT / house).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Journal:
    """Remembers rows by key in `out/metrics.jsonl`; without `out`, remembers nothing.

        with Journal(config) as journal:
            rows = [journal.row(f"n={n}", lambda: measure(n)) for n in config.sizes]

    A journal that another configuration or other code wrote, or whose run was completed, is
    started anew.

    Attributes:
      seconds: what the rows took that were there when it was opened.
    """

    def __init__(self, config: Any):
        self._lines: Lines | None = None
        self._rows: dict[str, dict[str, Any]] = {}
        self.seconds = 0.0
        if config.out is None:
            return
        path = Path(config.out) / "metrics.jsonl"
        header = {"fingerprint": fingerprint(config)}
        lines = Lines(path)
        stored: list[dict[str, Any]] = lines.records
        if stored[:1] != [header] or "end" in stored[-1]:
            lines.close()
            path.unlink()
            lines, stored = Lines(path), [header]
            lines.append(header)
        self._lines = lines
        self._rows = {record["key"]: record["row"] for record in stored[1:]}
        self.seconds = sum(record["seconds"] for record in stored[1:])

    def row(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row stored under `key`, or the one that `measure` gives, which is stored."""
        if key not in self._rows:
            start = time.perf_counter()
            self._rows[key] = plain(measure())
            if self._lines is not None:
                seconds = round(time.perf_counter() - start, 3)
                self._lines.append({"key": key, "seconds": seconds, "row": self._rows[key]})
        return self._rows[key]

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._lines is not None:
            if kind is None:
                self._lines.append({"end": True})
            self._lines.close()
