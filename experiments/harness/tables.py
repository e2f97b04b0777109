"""Rows as they are read: Markdown, and a value in a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.harness.files import plain


def shown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what is measured unit by unit."""
    return [
        {key: value for key, value in row.items() if not isinstance(value, list | tuple | dict)}
        for row in rows
    ]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table; its columns are the keys in order of first use."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def line(cells: Sequence[str]) -> str:
        return (
            "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in cells) + " |"
        )

    body = [line([cell(row.get(column)) for column in columns]) for row in rows]
    return "\n".join([line(columns), line(["---"] * len(columns)), *body]) if columns else ""


def cell(value: Any) -> str:
    """A value in a table: four digits that count, yes or no, nothing for nothing."""
    match plain(value):
        case bool(flag):
            return "yes" if flag else "no"
        case float(number):
            return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"
        case None:
            return ""
        case other:
            return str(other)
