"""The README's table of papers, generated from the results of record."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.harness.catalog import STORED, papers, stored
from experiments.harness.environment import ROOT
from experiments.harness.files import plain, write_atomically
from experiments.harness.report import Report, markdown
from jaxdecode.paper import Paper

README = ROOT / "README.md"
BEGIN, END = "<!-- papers:begin -->", "<!-- papers:end -->"


def papers_table(known: dict[str, Paper], folder: Path = STORED) -> str:
    """A row for every claim of every paper, what the paper measured beside what we did."""
    rows = []
    for slug, paper in sorted(known.items()):
        title = f"[{paper.title}]({paper.url})" if paper.url else paper.title
        row = {"method": f"`{slug}`", "paper": f"{title} ({paper.year})"}
        report = stored(slug, folder)
        if report is None:
            rows.append(row | {"claim": paper.claim, "measured here": "not measured yet"})
            continue
        for claim in report.claims:
            rows.append(
                row
                | {
                    "claim": claim.claim,
                    "paper's number": claim.paper,
                    "measured here": claim.measured,
                    "holds": claim.holds,
                }
            )
            row = {"method": f"`{slug}`", "paper": ""}
    columns = ("method", "paper", "claim", "paper's number", "measured here", "holds")
    return markdown([{column: row.get(column) for column in columns} for row in rows])


def rendered(text: str, table: str) -> str:
    """The README's text with `table` between its markers.

    Raises:
      ValueError: unless both markers are there once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(
            f"README: {BEGIN} and {END} must each stand there once, in this order, "
            "around the table of papers"
        )
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def stale(readme: Path = README) -> bool:
    """Whether the README's table is not what the results of record say."""
    text = readme.read_text(encoding="utf-8")
    return text != rendered(text, papers_table(papers()))


def update(readme: Path = README) -> None:
    """Write the table into the README."""
    text = readme.read_text(encoding="utf-8")
    write_atomically(readme, rendered(text, papers_table(papers())))


def store(report: Report, found: Path, folder: Path = STORED) -> None:
    """Make `report`, found at `found`, the result of record of its experiment.

    Its figure goes with it; its rows stay behind.
    """
    fields = {name: value for name, value in vars(report).items() if name != "rows"}
    fields = plain(fields | {"claims": [vars(claim) for claim in report.claims]}) | {"rows": []}
    write_atomically(folder / f"{report.experiment}.json", json.dumps(fields, indent=1) + "\n")
    drawn = found.with_name("figure.png")
    if drawn.is_file():
        write_atomically(folder / f"{report.experiment}.png", drawn.read_bytes())
