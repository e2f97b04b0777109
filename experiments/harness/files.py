"""Files that are never half there: atomic writes, and JSON lines that survive a kill. And lines of
files that somebody else wrote.

A whole file is written beside its place and renamed over it. A log grows by one line in one
write, so that a kill leaves at most one torn line at the end, which is cut off when the next line
is added: until then, and so while its owner makes sure that it is his, nothing of a file changes.
A log belongs to one process at a time.
"""

from __future__ import annotations

import codecs
import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecode.train.lock import hold


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


def compact(value: Any) -> Any:
    """`plain`, its numbers with six digits: what a record keeps, and claims are judged by."""
    match value:
        case dict():
            return {str(key): compact(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [compact(item) for item in value]
        case bool() | int() | str() | None:
            return value
        case float() if math.isfinite(value):
            return float(f"{value:.6g}")
    return compact(found) if (found := plain(value)) is not None else None


def parse(text: str | bytes) -> Any:
    """A JSON value; a `ValueError` for whatever is none, be it no text or nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects within one another, too deep to read") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`.

    Raises:
      ValueError: where the file holds something else, naming what stands where.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no regular file")
    try:
        value = parse(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); a finished file is never half written, "
            "so delete it and run again"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}; a JSON object was expected")
    return value


def whole_text(path: Path) -> str:
    """A text, without the mark that some editors put before it; a `ValueError` that names the
    file where it is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}; UTF-8 text was expected") from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of the lines of a text file, gzipped where its name ends in .gz.

    The mark that some editors put before a text is left out, and so are blank lines at its end.

    Raises:
      ValueError: naming the file, and the line that is no UTF-8 text.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; name a text file")
    blank: list[tuple[int, str]] = []
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, raw in enumerate(file, start=1):
                line = _text(raw, f"{path}:{number}", first=number == 1)
                blank.append((number, line))
                if line.strip():
                    yield from blank
                    blank.clear()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file ({error}); fetch it again") from error


def _text(raw: bytes, where: str, first: bool) -> str:
    if first and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{where}: the text is UTF-16; store it as UTF-8")
    raw = raw.removeprefix(codecs.BOM_UTF8) if first else raw
    try:
        return raw.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: {error}; UTF-8 text was expected") from error


class Lines:
    """An append-only file of JSON objects, one a line, held by this process until it is closed.

    Attributes:
      records: what the file held when it was opened.
    """

    def __init__(self, path: Path, first: str) -> None:
        """Open `path`, or create it.

        Args:
          first: the key that every file of this kind begins with: {"FIRST": ...
        Raises:
          ValueError: it is no regular file, another process holds it, or it is not of this kind;
            it is then as it was.
        """
        self.path = path
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file; name one, or a new one")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        try:
            self._hold()
            self._file.seek(0)
            self._read(self._file.read(), b'{"%s": ' % first.encode())
        except BaseException:
            self.close()
            raise

    def _hold(self) -> None:
        other = hold(self._file.fileno())
        if other is not None:
            raise ValueError(
                f"{self.path} is being written by {other}; wait for it, end it, or choose another "
                "output"
            )

    def _read(self, content: bytes, begin: bytes) -> None:
        if content and content[: len(begin)] != begin[: len(content)]:
            raise ValueError(
                f"{self.path} begins with {content[:40]!r}, not with {begin.decode()!r}: it is "
                "none of ours and stays as it is; choose another output"
            )
        whole, newline, rest = content.rpartition(b"\n")
        self.records = [
            self._parse(number, line) for number, line in enumerate(whole.split(b"\n"), start=1)
        ] if newline else []  # fmt: skip
        self._end = len(whole) + len(newline)
        self._open = False  # the last line is whole, only its end is missing
        if rest:
            try:
                self.records.append(self._parse(len(self.records) + 1, rest))
            except ValueError:
                return
            self._end, self._open = len(content), True

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = parse(line)
        except ValueError as error:
            raise ValueError(
                f"{self.path}:{number} is no JSON ({error}); "
                "delete the line or the file, or choose another output"
            ) from error
        if not isinstance(record, dict):
            raise ValueError(f"{self.path}:{number} is no JSON object but {repr(record)[:80]}")
        return record

    def append(self, record: dict[str, Any]) -> None:
        """Add one line in one write, in place of a torn one.

        Raises:
          OSError: if it does not fit on the disk; the lines before it are intact.
        """
        self._file.truncate(self._end)
        line = json.dumps(plain(record), ensure_ascii=False) + "\n"
        try:
            data = line.encode()
        except UnicodeEncodeError:  # half a surrogate pair, as file names may hold
            data = json.dumps(plain(record)).encode() + b"\n"
        data = b"\n" * self._open + data
        written = self._file.write(data)
        if written != len(data):
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes fit on the disk")
        self._end, self._open = self._end + len(data), False

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
