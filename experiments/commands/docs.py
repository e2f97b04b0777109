"""The API's pages, the gallery of figures, and how to write one's own parts.

    python -m experiments docs [--out DIR]      (make docs)

Everything comes from the code: pages of `jaxdecode`, `models` and `algorithms` from their
docstrings by pdoc, mathematics included; the gallery from the results of record; the examples
from `tests/examples`, which the tests run. Needs the `docs` extra. About a minute.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.harness import page
from experiments.harness.catalog import STORED
from experiments.harness.environment import ROOT
from experiments.harness.report import Report

PACKAGES = ("jaxdecode", "models", "algorithms")
EXAMPLES = ROOT / "tests" / "examples"
ORDER = ("logits_transform", "drafter", "verifier", "scorer", "search", "experiment", "settings")


@dataclass(frozen=True)
class Options:
    """The API's pages, the gallery of figures, and how to write one's own parts."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="where the pages go")] = Path("out/docs")


def gallery(folder: Path = STORED) -> list[str]:
    """A section for every result of record that has a figure."""
    sections = []
    for figure in sorted(folder.glob("*.png")):
        report = Report.read(figure.with_suffix(".json"))
        claims = [
            {"claim": c.claim, "paper": c.paper, "measured here": c.measured, "verdict": c.verdict}
            for c in report.claims
        ]
        sections += [
            page.heading(report.experiment),
            page.paragraph(
                f"python -m experiments {report.experiment} --preset {report.preset}", "dim"
            ),
            page.image(figure, f"figure of {report.experiment}"),
            page.folded("claims", page.table(claims)),
        ]
    return sections


def examples() -> list[str]:
    """A section for every example: what it is, and its whole code."""
    sections = []
    for name in ORDER:
        code = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(code)) or "").partition("\n")[0]
        sections += [page.heading(name.replace("_", " ")), page.paragraph(about), page.code(code)]
    return sections


def run(options: Options) -> None:
    """Write all pages.

    Raises:
      ValueError: if pdoc is not installed.
    """
    if importlib.util.find_spec("pdoc") is None:
        raise ValueError("pdoc is not installed; pip install '.[docs]' brings it")
    import pdoc

    out = options.out
    pdoc.render.configure(docformat="google", math=True, show_source=True)
    pdoc.pdoc(*PACKAGES, output_directory=out / "api")
    page.write(out / "gallery.html", "What was measured", *gallery())
    page.write(out / "write_your_own.html", "Write your own", *examples())
    page.write(
        out / "index.html",
        "jaxdecode",
        page.links(
            {f"api/{name}.html": f"{name}: {about(name)}" for name in PACKAGES}
            | {
                "write_your_own.html": "write your own: transforms, drafters, searches, ...",
                "gallery.html": "every figure, with its claims",
            }
        ),
    )
    print(f"open {out / 'index.html'} in a browser")


def about(package: str) -> str:
    """The first line of a package's docstring."""
    code = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(code)) or "").partition("\n")[0]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    try:
        run(tyro.cli(Options, prog="python -m experiments docs", args=arguments))
    except ValueError as error:
        sys.exit(f"error: {error}")
