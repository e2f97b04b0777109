"""Problems of published files: one JSON object a line, plain or gzipped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.files import parse, text_lines


def read_records(path: Path, texts: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a file that holds a text under each name of ``texts``, and where it stands.

    ValueError with file and line where one is not in the format. Blank lines are passed over.
    """
    for number, line in text_lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _parse(line, where, texts)


def _parse(line: str, where: str, texts: Sequence[str]) -> dict[str, Any]:
    try:
        record = parse(line)
    except ValueError as error:
        raise ValueError(f"{where}: expected one JSON object a line, got {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object, got {type(record).__name__}")
    for key in texts:
        if not isinstance(record.get(key), str):
            raise ValueError(f"{where}: expected a string under {key!r}, got {record.get(key)!r}")
    return record
