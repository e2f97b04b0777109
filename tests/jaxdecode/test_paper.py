"""Paper records: what they refuse, how they print, and how they are found."""

import dataclasses
import sys
from types import ModuleType

import pytest

from jaxdecode.paper import Paper, citation, papers

ONE = Paper(
    slug="one",
    title="Drafts & Targets: 100% of A*",
    authors=("Ada Lovelace", "Alan Turing"),
    year=2024,
    arxiv="2401.00001",
    venue="NeurIPS",
    claim="Twice as fast.",
    losslessness="exact",
)
TWO = dataclasses.replace(ONE, slug="two", title="Second", arxiv=None, venue="A book")


@dataclasses.dataclass(frozen=True)
class Engine:
    """A decoder of no paper, put together from parts."""

    slots: tuple[object, ...]
    model: object = None


def module_of(paper: Paper) -> ModuleType:
    """A module that defines `PAPER`, a class and a function, as those of `algorithms` do."""
    module = ModuleType(f"module_of_{paper.slug}")
    code = "class Slot:\n    pass\ndef assembly():\n    pass\n"
    exec(code, module.__dict__)
    module.__dict__["PAPER"] = paper
    return module


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of(ONE)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = module_of(TWO)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "Not A Module"),
        ("slug", "9lives"),
        ("authors", ()),
        ("authors", "Ada Lovelace"),
        ("authors", ("Ada Lovelace", "")),
        ("arxiv", "https://arxiv.org/abs/2401.00001"),
        ("losslessness", "mostly"),
        ("claim", " "),
        ("title", ""),
        ("venue", ""),
    ],
)
def test_refuses_a_record_that_cannot_be_cited(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(ONE, **{field: value})


def test_bibtex_is_the_entry_written_by_hand() -> None:
    assert ONE.bibtex() == (
        "@misc{one2024,\n"
        "  title = {{Drafts \\& Targets: 100\\% of A*}},\n"
        "  author = {Ada Lovelace and Alan Turing},\n"
        "  year = {2024},\n"
        "  howpublished = {NeurIPS},\n"
        "  eprint = {2401.00001},\n"
        "  archiveprefix = {arXiv},\n"
        "  url = {https://arxiv.org/abs/2401.00001},\n"
        "}\n"
    )


def test_bibtex_without_arxiv_has_no_eprint() -> None:
    assert "eprint" not in TWO.bibtex()
    assert TWO.url is None


def test_a_record_is_found_from_module_class_function_and_instance(one: ModuleType) -> None:
    for thing in (ONE, one, one.Slot, one.assembly, one.Slot()):
        assert list(papers(thing)) == [ONE]


def test_a_decoder_cites_its_parts_once_in_order(one: ModuleType, two: ModuleType) -> None:
    decoder = Engine(slots=(two.Slot(), [one.Slot(), two.Slot()]), model=3.0)
    assert citation(decoder, ONE) == TWO.bibtex() + "\n" + ONE.bibtex()


@pytest.mark.parametrize("thing", [Engine(slots=()), 3, None, "one"])
def test_citing_what_comes_from_no_paper_is_refused(thing: object) -> None:
    with pytest.raises(ValueError, match="argument 1"):
        citation(ONE, thing)
