"""How old the code of a record is: commits since its own that touch the experiment's files.

An experiment's files are its own modules, those of its family that they import, and those of
`algorithms`; the mechanisms below are held by exactness tests and change every record alike.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.environment import ROOT, git
from experiments.harness.report import Report


@dataclass(frozen=True)
class Age:
    """What has happened since a record was made.

    Attributes:
      code: commits since that touch the experiment's files.
      rules: those among them that touch where its claims are judged.
      dirty: whether it was made with changes that no commit holds.
    """

    code: int
    rules: int
    dirty: bool


def age(report: Report, module: str) -> Age | None:
    """Of the record of the experiment in `module`; None where its commit is not in the history."""
    named = str(report.environment.get("commit") or "")
    base = named.rstrip("+")
    if not base or git("merge-base", "--is-ancestor", base, "HEAD") is None:
        return None
    files = own_files(module)
    rules = [file for file in files if "def claims(" in (ROOT / file).read_text(encoding="utf-8")]
    rules = [file for file in rules if file.startswith("experiments/")]
    return Age(_since(base, files), _since(base, rules), named.endswith("+"))


def _since(base: str, files: list[str]) -> int:
    return int(git("rev-list", "--count", f"{base}..HEAD", "--", *files) or 0) if files else 0


def own_files(module: str, root: Path = ROOT) -> list[str]:
    """The files of an experiment, from the root, sorted."""
    family = ".".join(module.split(".")[:2])
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        if path is None or path in found:
            continue
        found.add(path)
        tree = ast.parse((root / path).read_text(encoding="utf-8"))
        waiting += [n for n in _imports(tree) if n.startswith((f"{family}.", "algorithms."))]
    return sorted(found)


def _file(name: str, root: Path) -> str | None:
    for path in (name.replace(".", "/") + ".py", name.replace(".", "/") + "/__init__.py"):
        if (root / path).is_file():
            return path
    return None


def _imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names that may be modules."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
