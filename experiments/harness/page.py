"""One HTML page that needs no other file: figures inside, every text escaped, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.harness.files import write_atomically
from experiments.harness.report import Report
from experiments.harness.tables import cell, shown

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #008661; --bad: #c43d00; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left;
         vertical-align: top; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: .8125rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.dim { opacity: .7; font-size: .875rem; } details { margin: .8rem 0; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, *sections: str) -> str:
    """A whole page of sections, which are HTML made by the functions below."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *sections,
            "</body></html>\n",
        ]
    )


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, style: str = "") -> str:
    return f'<p class="{escape(style)}">{escape(text)}</p>'


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a table; a text of several lines keeps them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(column))}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value in ("holds", "fails"):
        good = value is True or value == "holds"
        return f'<span class="{"good" if good else "bad"}">{escape(cell(value))}</span>'
    if isinstance(value, str) and "\n" in value:
        return f"<pre>{escape(value)}</pre>"
    return escape(cell(value))


def code(text: str) -> str:
    """Source, as it stands."""
    return f"<pre>{escape(text)}</pre>"


def links(targets: dict[str, str]) -> str:
    """A list of links, relative to the page: address -> text."""
    items = [f'<li><a href="{escape(to)}">{escape(told)}</a></li>' for to, told in targets.items()]
    return f"<ul>{''.join(items)}</ul>"


def folded(summary: str, *content: str) -> str:
    """Content shown on a click."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(content)}</details>"


def image(path: Path, text: str) -> str:
    """A PNG, inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{escape(text)}" src="data:image/png;base64,{data}"></p>'


def result(report: Report, folder: Path | None = None) -> str:
    """A report's section: claims, the figures of `folder`, rows, environment."""
    claims = [
        {"claim": c.claim, "paper": c.paper, "measured here": c.measured, "verdict": c.verdict}
        for c in report.claims
    ]
    figures = sorted(folder.glob("*.png")) if folder else []
    facts = [{"": name, "value": value} for name, value in report.environment.items()]
    return "\n".join(
        [
            heading(report.experiment),
            paragraph(f"preset {report.preset}, seed {report.seed}, {report.seconds:.0f} s", "dim"),
            table(claims),
            *[image(path, f"{report.experiment}: {path.stem}") for path in figures],
            folded(f"{len(report.rows)} rows", table(shown(report.rows))) if report.rows else "",
            folded("environment", table(facts)),
        ]
    )


def write(path: Path, title: str, *sections: str) -> None:
    """Store a page atomically."""
    write_atomically(path, page(title, *sections))
