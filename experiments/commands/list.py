"""Every experiment: its paper, its claim, its presets, and what it last found.

python -m experiments list [--out DIR]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.commands.terminal import visible
from experiments.harness.catalog import Experiment, experiments, results, stored
from experiments.harness.report import Report


def verdict(report: Report | None) -> str:
    """One line on a result."""
    if report is None:
        return "not run yet"
    holding = sum(claim.verdict == "holds" for claim in report.claims)
    return f"{holding}/{len(report.claims)} claims hold ({report.preset}, seed {report.seed})"


def table(found: list[Experiment], last: dict[str, Report]) -> Table:
    """The list as a table; a result of record stands in where nothing was run here."""
    shown = Table(
        "experiment", "paper", "claim", "presets", "last result", box=None, pad_edge=False
    )
    for item in found:
        paper = item.paper
        shown.add_row(
            item.slug,
            f"{paper.title} ({paper.year}{f', arXiv {paper.arxiv}' if paper.arxiv else ''})"
            if paper
            else "",
            paper.claim if paper else item.about,
            ", ".join(item.presets),
            escape(visible(verdict(last.get(item.slug) or stored(item.slug)))),
        )
    return shown


def show(
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="where results were written")] = Path(
        "out"
    ),
) -> None:
    """List every experiment with its paper, claim, presets and last result."""
    last = {report.experiment: report for report in results(out).values()}
    Console().print(table(experiments(), last))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    try:
        tyro.cli(show, prog="python -m experiments list", args=arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
