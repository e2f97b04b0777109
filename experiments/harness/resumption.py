"""Finished measurements, kept so that a killed run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.harness.environment import ROOT
from experiments.harness.files import Lines, plain
from jaxdecode.distributed import from_primary, primary


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


def _aside(path: Path, owner: str) -> Path:
    """Where the unfinished records of a configuration wait; names that are no hash are hashed."""
    sound = owner if owner.isalnum() else hashlib.sha256(owner.encode()).hexdigest()
    return path.with_name(f"metrics.{sound[:16]}.jsonl")


class Resumption:
    """Remembers rows by key in `out/metrics.jsonl`; without `out`, remembers nothing.

        with Resumption(config) as finished:
            rows = [finished.row(f"n={n}", lambda: measure(n)) for n in config.sizes]

    Records of a completed run are started anew. Those that another configuration or other code
    began are put aside, as `metrics.FINGERPRINT.jsonl`, and taken up where that configuration
    comes back; a file of another kind is refused and left as it is. Of several processes the
    first keeps it and tells the others what is in it, so that all measure, and skip, the same
    rows.

    Attributes:
      seconds: what the rows took that were there when it was opened.
    """

    def __init__(self, config: Any) -> None:
        self._lines: Lines | None = None
        stored: list[dict[str, Any]] = []
        if config.out is not None and primary():
            self._lines, stored = self._open(config)
        stored = from_primary(stored)
        self._rows = {record["key"]: record["row"] for record in stored}
        self.seconds: float = sum(record["seconds"] for record in stored)

    @staticmethod
    def _open(config: Any) -> tuple[Lines, list[dict[str, Any]]]:
        """The file to go on with, and the rows that are in it."""
        path = Path(config.out) / "metrics.jsonl"
        mine = fingerprint(config)
        lines = Lines(path, "fingerprint")
        stored = lines.records
        if stored and "end" in stored[-1]:
            lines.close()
            path.unlink()
        elif stored and stored[0]["fingerprint"] != mine:
            lines.close()
            os.replace(path, _aside(path, str(stored[0]["fingerprint"])))
        else:
            if not stored:
                lines.append({"fingerprint": mine})
            return lines, stored[1:]
        if _aside(path, mine).is_file():
            os.replace(_aside(path, mine), path)
        lines = Lines(path, "fingerprint")
        if not lines.records:
            lines.append({"fingerprint": mine})
        return lines, lines.records[1:]

    def row(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row stored under `key`, or the one that `measure` gives, which is stored."""
        if key not in self._rows:
            start = time.perf_counter()
            self._rows[key] = from_primary(plain(measure()))
            if self._lines is not None:
                seconds = round(time.perf_counter() - start, 3)
                self._lines.append({"key": key, "seconds": seconds, "row": self._rows[key]})
        return self._rows[key]

    def __enter__(self) -> Resumption:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._lines is not None:
            if kind is None:
                self._lines.append({"end": True})
            self._lines.close()
