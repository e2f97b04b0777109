"""Every experiment, with its paper and its results."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import algorithms
from experiments.harness.entries import HOUSE, entries
from experiments.harness.report import Report
from jaxdecode.paper import Paper

STORED = HOUSE / "results"


@dataclass(frozen=True)
class Experiment:
    """A module with `PRESETS` and `run`.

    Attributes:
      slug: its name in `python -m experiments SLUG`.
      about: the first line of its docstring.
      presets: their names.
      paper: the record it reproduces, where it reproduces one.
    """

    slug: str
    about: str
    presets: tuple[str, ...]
    paper: Paper | None


def papers() -> dict[str, Paper]:
    """Slug -> record, of every module of `algorithms` that defines `PAPER`."""
    found = {}
    for module in pkgutil.walk_packages(algorithms.__path__, "algorithms."):
        paper = getattr(importlib.import_module(module.name), "PAPER", None)
        if isinstance(paper, Paper):
            found[paper.slug] = paper
    return found


def experiments(house: Path = HOUSE) -> list[Experiment]:
    """Every experiment in `house`, by name."""
    known = papers()
    return [
        Experiment(entry.name, entry.about, entry.presets, known.get(entry.name))
        for entry in sorted(entries(house).values(), key=lambda entry: entry.name)
        if entry.presets
    ]


def results(folder: Path) -> dict[Path, Report]:
    """Every result under `folder`, newest last.

    Raises:
      ValueError: naming a file that is half written or no result.
    """
    paths = sorted(folder.rglob("result.json"), key=lambda path: path.stat().st_mtime)
    return {path: Report.read(path) for path in paths}


def stored(slug: str, folder: Path = STORED) -> Report | None:
    """The result of record of an experiment, where there is one."""
    path = folder / f"{slug}.json"
    return Report.read(path) if path.is_file() else None
