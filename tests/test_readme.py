"""The front door is short, and what it says is there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from experiments.harness.entries import entries
from experiments.harness.report import Report
from models import session

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    path
    for pattern in ("*.md", "*/README.md", "*/*/README.md")
    for path in ROOT.glob(pattern)
    if "out" not in path.parts
)
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def test_it_is_short() -> None:
    assert len(README.encode()) <= 12 * 1024


def test_its_first_program_is_the_one_that_is_tested() -> None:
    """`tests/models/test_session.py` runs the one in the docstring, on a small model."""
    shown = re.search(r"```python\n(.*?)```", README, flags=re.S)
    assert shown is not None

    def code(text: str) -> list[str]:
        lines = textwrap.dedent(text).strip().splitlines()
        return [line.split("  #")[0].rstrip() for line in lines]

    told = code((session.__doc__ or "").split("\n\n", 1)[1].split("\n\nA method")[0])
    assert [line.replace("path/to/model", "smollm2.gguf") for line in code(shown[1])] == told


def test_the_claims_that_a_command_prints_are_those_of_its_record() -> None:
    name, printed = re.findall(
        r"^\$ python -m experiments (\w+) --preset cpu\n(.*?)\.\.\.$", README, flags=re.S | re.M
    )[0]
    report = Report.read(ROOT / "experiments" / "results" / f"{name}.json")
    told = [
        f"{c.verdict}: {c.claim}\n       paper: {c.paper}; here: {c.measured}\n"
        for c in report.claims
    ]
    assert printed and "".join(told).startswith(printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve_and_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert re.match(r"https?://", link) or (page.parent / link).exists(), link
    known = entries()
    for name in re.findall(r"python -m experiments ([a-z_0-9]+)", text):
        assert name in known, name
    for target in re.findall(r"`make ([a-z]+)`", text):
        assert target in TARGETS, target
