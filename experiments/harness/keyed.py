"""Rows of measurements as a dictionary: by all that tells them apart, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def keyed(
    rows: Iterable[Mapping[str, Any]], *columns: str, value: str | None = None
) -> dict[Any, Any]:
    """A row, or its `value`, under its `columns`: one of them alone, several as a tuple.

    Raises:
      ValueError: two rows share a key, so that the last would silently stand for both.
    """
    found: dict[Any, Any] = {}
    for row in rows:
        key = row[columns[0]] if len(columns) == 1 else tuple(row[column] for column in columns)
        if key in found:
            raise ValueError(
                f"rows: two have {', '.join(columns)} = {key!r}; name what else tells them apart, "
                "or choose among them first"
            )
        found[key] = row if value is None else row[value]
    return found
