"""Files that are never half there: atomic writes, and JSON lines that survive a kill.

A whole file is written beside its place and renamed over it. A log grows by one line in one
write, so that a kill leaves at most one torn line at the end, which is cut off on opening.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`; whoever reads it sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def plain(value: Any) -> Any:
    """`value` as JSON has it: arrays are lists, NaN and infinities null, paths text."""
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [plain(item) for item in value]
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case np.generic():
            return plain(value.item())
        case os.PathLike():
            return os.fspath(value)
    if hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist())
    raise ValueError(f"{value!r} of type {type(value).__name__} cannot be stored as JSON")


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`.

    Raises:
      ValueError: where the file holds something else, naming what stands where.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no JSON ({error}); a finished file is never half written, "
            "so delete it and run again"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}; a JSON object was expected")
    return value


class Lines:
    """An append-only file of JSON objects, one a line.

    Attributes:
      records: what the file held when it was opened.
    """

    def __init__(self, path: Path):
        """Open `path`, or create it; a torn last line is cut off.

        Raises:
          ValueError: if another line is no JSON object, naming file and line.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        self._file.seek(0)
        whole, _, torn = self._file.read().rpartition(b"\n")
        if torn:
            self._file.truncate(len(whole) + bool(whole))
        self.records = [
            self._parse(number, line) for number, line in enumerate(whole.splitlines(), start=1)
        ]

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            self.close()
            raise ValueError(
                f"{self.path}:{number} is no JSON ({error}); "
                "delete the line or the file, or choose another output"
            ) from error
        if not isinstance(record, dict):
            self.close()
            raise ValueError(f"{self.path}:{number} is no JSON object but {record!r}")
        return record

    def append(self, record: dict[str, Any]) -> None:
        """Add one line in one write.

        Raises:
          OSError: if it does not fit on the disk; the lines before it are intact.
        """
        line = json.dumps(plain(record), ensure_ascii=False).encode() + b"\n"
        written = self._file.write(line)
        if written != len(line):
            raise OSError(f"{self.path}: only {written} of {len(line)} bytes fit on the disk")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
