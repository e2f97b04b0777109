"""One page, and the README's table, from all results.

python -m experiments report [FOLDER] [--html FILE] [--store] [--check]
                             [--rejudge] [--stale [--run]]

FOLDER (default `out`) is searched for `result.json`; the newest of each experiment and preset
goes on one HTML page with its figures inside. --store makes the best run of each experiment
(preset paper before cpu; smoke never) the result of record, beside it that of preset real, and
rewrites the README's table and the ledger; a run from a tree with changes is refused.
--check changes nothing and exits 1 if a generated page is stale. --rejudge gives every verdict
again from the records alone and exits 1 where a stored one differs; with --store it is corrected.
--stale lists the records whose experiment has changed since, with the commands that record them
again; --run runs those, one after the other.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.commands.report import ledger, renewal
from experiments.harness import page
from experiments.harness.catalog import REAL, experiments, place, results
from experiments.harness.report import Report

RANK = ("cpu", "paper", REAL)  # presets fit for the record, the better later


@dataclass(frozen=True)
class Options:
    """One HTML page, and the README's table, from all results."""

    folder: tyro.conf.Positional[Path] = Path("out")
    """Where results were written."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The page; by default report.html in the folder."""
    store: tyro.conf.FlagCreatePairsOff[bool] = False
    """Make these results the ones of record, and rewrite the README's table."""
    check: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only exit 1 if the README's table or the ledger is stale."""
    rejudge: tyro.conf.FlagCreatePairsOff[bool] = False
    """Give the verdicts again from the records alone; exit 1 where a stored one differs."""
    stale: tyro.conf.FlagCreatePairsOff[bool] = False
    """List the records whose experiment has changed since, and how to record them again."""
    run: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --stale: record them again, one after the other."""


def overview(newest: dict[Path, Report]) -> str:
    """All claims in one table."""
    return page.table(
        [
            {
                "experiment": report.experiment,
                "preset": report.preset,
                "claim": claim.claim,
                "paper": claim.paper,
                "measured here": claim.measured,
                "verdict": claim.verdict,
            }
            for report in newest.values()
            for claim in report.claims
        ]
    )


def record(found: dict[Path, Report], slugs: set[str]) -> dict[Path, Report]:
    """The run fit for each record: best preset, then newest."""
    best: dict[str, Path] = {}
    for path, report in found.items():
        if report.experiment in slugs and report.preset in RANK:
            other = best.get(place(report))
            if other is None or RANK.index(report.preset) >= RANK.index(found[other].preset):
                best[place(report)] = path
    return {path: found[path] for path in best.values()}


def run(options: Options) -> None:
    """Do what the options say.

    Raises:
      ValueError: for a folder without results, a result file that is half written, a run that
        is unfit for the record, or a stored verdict that is not what its evidence gives.
    """
    if options.check:
        stale = [path.name for path in ledger.stale()]
        if stale:
            raise ValueError(f"{', '.join(stale)}: not what the records say; run report --store")
        print("README.md and the ledger say what the results of record say")
        return
    if options.rejudge:
        renewal.rejudge(options.store)
        return
    if options.stale:
        renewal.renew(options.run)
        return
    found = results(options.folder)
    if not found and not options.store:
        raise ValueError(
            f"{options.folder}: no result.json below it; run an experiment first, "
            "or name the folder given to --out"
        )
    if found:
        publish(found, options.html or options.folder / "report.html")
    if options.store:
        slugs = {experiment.slug for experiment in experiments()}
        for path, report in record(found, slugs).items():
            ledger.store(report, path)
            print(f"{report.experiment}: preset {report.preset} is the result of record")
        ledger.update()


def publish(found: dict[Path, Report], html: Path) -> None:
    """The newest result of each experiment and preset, on one page."""
    newest: dict[tuple[str, str], Path] = {}
    for path, report in found.items():
        newest[report.experiment, report.preset] = path
    shown = {path: found[path] for _, path in sorted(newest.items())}
    sections = [page.result(report, path.parent) for path, report in shown.items()]
    page.write(html, "Papers and what was measured", overview(shown), *sections)
    print(f"{len(shown)} results on {html}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    try:
        run(tyro.cli(Options, prog="python -m experiments report", args=arguments))
    except ValueError as error:
        sys.exit(f"error: {error}")
