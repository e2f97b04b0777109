"""Records judged again from what they keep, and recorded again where their code has changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from experiments.commands.report import ledger
from experiments.harness.catalog import STORED
from experiments.harness.entries import entries
from experiments.harness.judging.code_age import age
from experiments.harness.judging.rejudging import differences, rejudged
from experiments.harness.report import Report


def records(folder: Path = STORED) -> list[Report]:
    """Every result of record, by name."""
    return [Report.read(path) for path in sorted(folder.glob("*.json"))]


def rejudge(correct: bool, folder: Path = STORED) -> None:
    """Print every verdict that the records alone give, and where a stored one differs.

    Args:
      correct: write what the rules give into the records and the generated pages.
    Raises:
      ValueError: a stored verdict differs, and was not to be corrected.
    """
    wrong, known = 0, entries()
    for report in records(folder):
        now = rejudged(report, known)
        if isinstance(now, str):
            print(f"{report.experiment}: {len(report.claims)} claims not judged again: {now}")
            continue
        for claim in now.claims:
            print(f"{report.experiment}: {claim.verdict}: {claim.claim}")
        found = differences(report, now)
        wrong += len(found)
        for line in found:
            print(f"{report.experiment}: DIFFERS: {line}")
        if found and correct:
            ledger.write(now, folder)
    if correct:
        ledger.update()
    elif wrong:
        raise ValueError(
            f"{wrong} stored verdicts are not what rules and rows give; "
            "`report --rejudge --store` corrects them"
        )


def outdated(folder: Path = STORED) -> Iterator[tuple[str, list[str]]]:
    """Why a record should be made again, and the command that does it."""
    known = entries()
    for report in records(folder):
        entry = known.get(report.experiment)
        if entry is None:
            continue
        since = age(report, entry.module)
        why = []
        if since is None:
            why.append("its commit is not in this history")
        elif since.code:
            why.append(f"{since.code} commits have touched its files")
        if since is not None and since.dirty:
            why.append("it was made from a tree with changes")
        if report.evidence is None:
            why.append("it has not kept its rows")
        if why:
            command = [report.experiment, "--preset", report.preset, "--seed", str(report.seed)]
            yield (
                f"{report.experiment}: {', '.join(why)} ({report.seconds / 60:.0f} minutes)",
                command,
            )


def renew(run: bool, folder: Path = STORED) -> None:
    """List what is outdated; with `run`, measure it again, one after the other.

    Raises:
      ValueError: an experiment ended in an error; those after it are still run.
    """
    failed = []
    for why, command in list(outdated(folder)):
        print(f"{why}\n    python -m experiments {' '.join(command)}", flush=True)
        if run and subprocess.run([sys.executable, "-m", "experiments", *command]).returncode:
            failed.append(command[0])
    if failed:
        raise ValueError(f"{', '.join(failed)}: ended in an error; see above")
    print("then: python -m experiments report --store")
