"""Every experiment, with its paper and its results."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import algorithms
from experiments.harness.entries import HOUSE, entries
from experiments.harness.report import Report
from jaxdecode.paper import Paper

STORED = HOUSE / "results"
REAL = "real"  # the preset of a published chat model that two cores serve


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


class Known(NamedTuple):
    """A paper, and the file that is its assembly, from the root."""

    paper: Paper
    module: str


def papers() -> dict[str, Known]:
    """Slug -> record, of every module of `algorithms` that has `PAPER`.

    A paper's slots and its assembly share one record; the assembly lies nearest the top.
    """
    found: dict[str, Known] = {}
    for module in pkgutil.walk_packages(algorithms.__path__, "algorithms."):
        paper = getattr(importlib.import_module(module.name), "PAPER", None)
        if isinstance(paper, Paper):
            file = module.name.replace(".", "/") + ".py"
            if paper.slug not in found or file.count("/") < found[paper.slug].module.count("/"):
                found[paper.slug] = Known(paper, file)
    return found


def experiments(house: Path = HOUSE) -> list[Experiment]:
    """Every experiment in `house`, by name."""
    known = {slug: known.paper for slug, known in papers().items()}
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
    found = (path for path in folder.rglob("result.json") if path.is_file())
    paths = sorted(found, key=lambda path: path.stat().st_mtime)
    return {path: Report.read(path) for path in paths}


def stored(slug: str, folder: Path = STORED) -> Report | None:
    """The result of record of an experiment, where there is one: a real model's before others."""
    found = (folder / f"{slug}{preset}.json" for preset in (f"-{REAL}", ""))
    return next((Report.read(path) for path in found if path.is_file()), None)


def place(report: Report) -> str:
    """The name of its record: one made with a real model lies beside the other."""
    return f"{report.experiment}-{REAL}" if report.preset == REAL else report.experiment
