"""Every experiment of this folder, with its paper and its results."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import algorithms
from experiments.report import Report
from jaxdecode.paper import Paper

HERE = Path(__file__).parent
STORED = HERE / "results"


@dataclass(frozen=True)
class Experiment:
    """A module with `PRESETS` and `run`.

    Attributes:
      slug: its name in `python -m experiments.SLUG`.
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


def experiments(folder: Path = HERE) -> list[Experiment]:
    """Every experiment in `folder`, by name. Files are read, not imported."""
    known = papers()
    found = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        presets = _presets(tree)
        if presets:
            about = (ast.get_docstring(tree) or "").partition("\n")[0]
            found.append(Experiment(path.stem, about, presets, known.get(path.stem)))
    return found


def _presets(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="PRESETS")], value=ast.Dict(keys=keys))
                | ast.AnnAssign(target=ast.Name(id="PRESETS"), value=ast.Dict(keys=keys))
            ):
                return tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
    return ()


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
