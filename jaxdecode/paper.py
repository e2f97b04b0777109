"""The record of a published method, and the BibTeX of whatever was used.

A module that implements a paper defines `PAPER` once; modules that share the paper import it. From
a decoder, `citation` finds the records of everything it is put together from: a drafter of one
paper under a verifier of another cites both.
"""

import dataclasses
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Literal, get_args

Losslessness = Literal["exact", "approximate", "not-applicable"]

# The characters TeX reads as commands where BibTeX expects text.
TEX = str.maketrans({c: "\\" + c for c in "&%#$_"})


@dataclasses.dataclass(frozen=True)
class Paper:
    """One published method.

    slug          the method in file names and tables; its experiment is `experiments/<slug>.py`
    authors       full names, in the paper's order
    arxiv         identifier such as "2007.14966", or None
    venue         where it appeared, or "arXiv"
    claim         the headline claim, in one sentence of ours
    losslessness  "exact": the target's distribution (or its greedy text) is preserved;
                  "approximate": it is not; "not-applicable": the method changes it on purpose
    """

    slug: str
    title: str
    authors: tuple[str, ...]
    year: int
    arxiv: str | None
    venue: str
    claim: str
    losslessness: Losslessness

    def __post_init__(self) -> None:
        """Raise ValueError for a record that could not be found, printed or cited."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.slug):
            raise ValueError(f"slug={self.slug!r} names no module: use lower case, digits and '_'")
        if isinstance(self.authors, str) or not self.authors or not all(self.authors):
            raise ValueError(f"authors={self.authors!r}: give a non-empty tuple of full names")
        if self.arxiv is not None and not re.fullmatch(r"\d{4}\.\d{4,5}", self.arxiv):
            raise ValueError(
                f"arxiv={self.arxiv!r}: give an identifier such as '2007.14966', or None"
            )
        if self.losslessness not in get_args(Losslessness):
            raise ValueError(
                f"losslessness={self.losslessness!r}: choose one of {get_args(Losslessness)}"
            )
        for name in ("title", "venue", "claim"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} of paper {self.slug!r} is empty: fill it in")

    @property
    def url(self) -> str | None:
        """The abstract page, where there is one."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else None

    def bibtex(self) -> str:
        """One BibTeX entry, keyed by slug and year."""
        fields = {
            "title": f"{{{self.title.translate(TEX)}}}",  # braced twice: capitals stay
            "author": " and ".join(self.authors),
            "year": str(self.year),
            "howpublished": self.venue.translate(TEX),
        }
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archiveprefix": "arXiv", "url": str(self.url)}
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@misc{{{self.slug}{self.year},\n{body}}}\n"


def papers(thing: object) -> Iterator[Paper]:
    """The records behind `thing`, depth first, repeats included.

    `thing` is a Paper; a module; a class, function or instance of a module that has `PAPER`; or a
    dataclass, tuple or list that holds such things.
    """
    if isinstance(thing, Paper):
        yield thing
        return
    module = thing if isinstance(thing, ModuleType) else sys.modules.get(_module_name(thing))
    paper = getattr(module, "PAPER", None)
    if isinstance(paper, Paper):
        yield paper
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        parts = [getattr(thing, field.name) for field in dataclasses.fields(thing)]
    else:
        parts = thing if isinstance(thing, tuple | list) else []
    for part in parts:
        yield from papers(part)


def _module_name(thing: object) -> str:
    name = getattr(thing, "__module__", None)
    return name if isinstance(name, str) else type(thing).__module__


def citation(*things: object) -> str:
    """BibTeX of every paper behind `things`, each once, in order of first use.

    Raises ValueError for an argument behind which there is no paper.
    """
    used: dict[str, Paper] = {}
    for position, thing in enumerate(things):
        found = {paper.slug: paper for paper in papers(thing)}
        if not found:
            raise ValueError(
                f"argument {position} ({type(thing).__name__}) comes from no paper: pass a Paper, "
                "or something made of parts whose modules define PAPER"
            )
        used |= found
    return "\n".join(paper.bibtex() for paper in used.values())
