"""The house keeps its rules, and each rule catches the fault it is there for."""

from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import CHECKS, CONFORMANCE, ENGINE_LINES, FILE_LINES, ROOM_ENTRIES

ROOT = Path(__file__).resolve().parents[1]
ROWS = f"{CONFORMANCE}/test_decoders.py"
PAPER = 'from jaxdecode.paper import Paper\n\nPAPER = Paper(slug="best_of_n", title="Best")\n'

SOUND = {
    "pyproject.toml": '[project]\ndependencies = ["jax>=0.10", "orbax-checkpoint", "numpy"]\n'
    "[project.optional-dependencies]\n"
    'checkpoints = ["safetensors>=0.5"]\nlint = ["ruff"]\nparity = ["lm-eval"]\n',
    "Makefile": "lint:\n\tpython -m ruff check .\n",
    "README.md": "# House\n\n| method | command |\n| --- | --- |\n| Best | `best_of_n` |\n",
    "jaxdecode/__init__.py": '"""Mechanisms."""\n',
    "jaxdecode/paper.py": '"""Papers."""\nimport re\nimport jax, numpy, orbax.checkpoint\n'
    "from . import lm\n",
    "jaxdecode/py.typed": "",
    "models/__init__.py": '"""Models."""\nfrom jaxdecode import lm\n',
    "models/checkpoints.py": '"""Files."""\ndef load():\n    """L."""\n    import safetensors\n',
    "models/py.typed": "",
    "algorithms/__init__.py": '"""Methods."""\n',
    "algorithms/selection/best.py": f'"""Best of N."""\n{PAPER}',
    "algorithms/py.typed": "",
    "experiments/__main__.py": '"""Start."""\nimport experiments.commands\n',
    "experiments/selection/best_of_n.py": '"""Claim."""\nimport algorithms.selection.best\n'
    "import models\nfrom experiments.zoo import load\nfrom experiments.selection import shared\n",
    "experiments/zoo/load.py": '"""Models."""\nfrom experiments import tasks\nimport lm_eval\n',
    "tests/experiments/selection/test_best_of_n.py": "",
    ROWS: 'ROWS = {"best_of_n": 1}\n',
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small tree without a fault."""
    for name, text in SOUND.items():
        write(tmp_path, name, text)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def faults(root: Path) -> list[str]:
    return [fault for check in CHECKS for fault in check(root)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_keeps_its_rules(check) -> None:
    assert list(check(ROOT)) == []


def test_the_rules_read_the_house() -> None:
    """An empty walk would keep every rule."""
    read = {
        path.relative_to(ROOT).as_posix() for path, _ in architecture.sources(ROOT, "jaxdecode")
    }
    assert "jaxdecode/paper.py" in read
    module = ROOT / "tests" / "test_architecture.py"
    tree = next(t for p, t in architecture.sources(ROOT, "tests") if p == module)
    found = {(name, early) for _, name, early in architecture.imports(ROOT, module, tree)}
    assert ("pytest", True) in found


def test_a_sound_house_has_no_fault(house: Path) -> None:
    assert faults(house) == []


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("jaxdecode/lm.py", "import models", "jaxdecode/lm.py:2: jaxdecode imports models"),
        (
            "jaxdecode/lm.py",
            "from algorithms.selection import best",
            "imports algorithms.selection",
        ),
        ("jaxdecode/lm.py", "import numpy, experiments.tasks", "imports experiments.tasks"),
        ("jaxdecode/a/b.py", "from ... import models", "jaxdecode imports models"),
        ("jaxdecode/a/b.py", "from ...models import heads", "jaxdecode imports models"),
        ("models/heads.py", "def _f():\n    import algorithms", "heads.py:3: models imports"),
        ("models/heads.py", "from experiments.zoo import load", "models imports experiments.zoo"),
        ("algorithms/x.py", "from models.heads import Head", "algorithms imports models.heads"),
        ("algorithms/x.py", "import tests.architecture", "algorithms imports tests"),
        ("algorithms/x.py", 'importlib.import_module("models.heads")', "imports models.heads"),
        ("experiments/zoo/x.py", "from tests.conformance import rows", "experiments imports tests"),
        ("experiments/zoo/x.py", "from experiments.inputs import prompts", "zoo imports inputs"),
        ("experiments/zoo/x.py", "from experiments import bench", "zoo imports bench"),
        ("experiments/harness/x.py", "import experiments.tasks.task", "harness imports tasks"),
        ("experiments/search/a/x.py", "from experiments.selection import s", "imports selection"),
        ("experiments/commands/x.py", "from experiments.bench import race", "imports bench"),
        ("experiments/attic/x.py", "import jax", "experiments/attic: no room of the plan"),
    ],
)
def test_a_wrong_arrow_is_caught(house: Path, name: str, code: str, expected: str) -> None:
    write(house, name, f'"""A module."""\n{code}\n')
    (fault,) = faults(house)
    assert expected in fault


@pytest.mark.parametrize("name", ["torch", "transformers.models", "safetensors"])
@pytest.mark.parametrize("guard", ["", "if True:\n    ", "class _A:\n    "])
def test_an_import_of_an_extra_is_caught_unless_deferred(
    house: Path, name: str, guard: str
) -> None:
    write(house, "models/heads.py", f'"""Heads."""\n{guard}import {name}\n')
    (fault,) = faults(house)
    assert f"{name} is no core dependency" in fault
    write(house, "models/heads.py", f'"""Heads."""\ndef _load():\n    import {name}\n')
    assert faults(house) == []


@pytest.mark.parametrize(
    ("name", "limit"),
    [("jaxdecode/speculate.py", ENGINE_LINES), ("algorithms/selection/long.py", FILE_LINES)],
)
def test_a_long_file_is_caught(house: Path, name: str, limit: int) -> None:
    write(house, name, '"""Long."""\n' + "x = 1\n" * (limit - 1))
    assert faults(house) == []
    write(house, name, '"""Long."""\n' + "x = 1\n" * limit)
    assert faults(house) == [f"{name}: {limit + 1} lines, of at most {limit}"]


@pytest.mark.parametrize(
    ("slug", "missing"),
    [
        (
            "experiments/selection/best_of_n.py",
            "neither experiments/selection/best_of_n.py nor "
            "experiments/selection/best_of_n/main.py",
        ),
        (ROWS, f"no row for 'best_of_n' in {CONFORMANCE}"),
        ("README.md", "no row for 'best_of_n' in a table of README.md"),
    ],
)
def test_a_paper_without_its_proof_is_caught(house: Path, slug: str, missing: str) -> None:
    (house / slug).unlink()
    assert faults(house) == [f"algorithms/selection/best.py: {missing}"]


def test_a_longer_name_or_plain_text_is_no_row(house: Path) -> None:
    write(house, "README.md", "The method best_of_n.\n\n| best_of_n_plus | x |\n")
    write(house, ROWS, 'ROWS = {"best_of_n_plus": 1}\n')
    assert len(faults(house)) == 2


def test_an_experiment_may_be_a_folder_and_stands_in_its_family(house: Path) -> None:
    code = (house / "experiments/selection/best_of_n.py").read_text()
    (house / "experiments/selection/best_of_n.py").unlink()
    write(house, "experiments/selection/best_of_n/main.py", code)
    assert faults(house) == []
    (house / "experiments/selection/best_of_n/main.py").unlink()
    code = code.replace("experiments.selection", "experiments.search")
    write(house, "experiments/search/best_of_n.py", code)
    assert [fault.partition(": ")[2][:31] for fault in faults(house)] == [
        "neither experiments/selection/b"
    ]


def test_a_crowded_room_is_caught(house: Path) -> None:
    for number in range(ROOM_ENTRIES):
        write(house, f"experiments/zoo/part{number}.py", '"""A part."""\n')
    assert faults(house) == [f"experiments/zoo: {ROOM_ENTRIES + 1} entries, of at most 16"]
    (house / "experiments/zoo/load.py").rename(house / "experiments/zoo/__init__.py")
    assert faults(house) == []


def test_a_test_of_nothing_is_caught(house: Path) -> None:
    write(house, "tests/experiments/attic/test_x.py", "")
    assert faults(house) == ["tests/experiments/attic/test_x.py: there is no experiments/attic"]


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("experiments/zoo/load.py", "lm-eval"),
        ("Makefile", "ruff"),
        ("models/checkpoints.py", "safetensors"),
    ],
)
def test_an_extra_that_nothing_uses_is_caught(house: Path, name: str, unused: str) -> None:
    write(house, name, '"""Empty."""\n')
    assert faults(house) == [f"pyproject.toml: {unused} is declared and not used"]


@pytest.mark.parametrize(
    ("paper", "expected"),
    [
        ("PAPER = record()", "with the slug written out"),
        ("PAPER: Paper = Paper('best_of_n')", "is already in algorithms/selection/best.py"),
        ("PAPER: Paper = Paper('unknown')", "neither experiments/selection/unknown.py"),
    ],
)
def test_a_record_that_cannot_be_read_is_caught(house: Path, paper: str, expected: str) -> None:
    write(house, "algorithms/selection/worst.py", f'"""Worst of N."""\n{paper}\n')
    assert expected in faults(house)[0]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(): ...", "f has no docstring"),
        ("class A: ...", "A has no docstring"),
        ('class A:\n    """A."""\n    def f(self): ...', "no f like A's has a docstring"),
    ],
)
def test_a_symbol_that_the_pages_would_show_bare_is_caught(
    house: Path, code: str, expected: str
) -> None:
    write(house, "algorithms/x.py", f'"""A module."""\n{code}\n')
    (fault,) = faults(house)
    assert fault.endswith(expected)
    protocol = 'class P:\n    """P."""\n    def f(self):\n        """What f does."""\n'
    write(house, "jaxdecode/p.py", f'"""A protocol."""\n{protocol}')
    assert faults(house) == ([] if "like" in expected else [fault])


def test_an_undocumented_module_and_hidden_types_are_caught(house: Path) -> None:
    write(house, "algorithms/x.py", "x = 1\n")
    (house / "models" / "py.typed").unlink()
    assert faults(house) == ["algorithms/x.py: no docstring", "models: no py.typed"]


@pytest.mark.parametrize(
    "text",
    [
        "/".join(["see ", "home", "ada", "weights"]),
        "/".join(["(", "root", "x)"]),
        "pip install --index" + "-url x",
        "https://" + "pypi." + "org/simple",
        "# TO" + "DO: later",
        "../" + "shared/plan.md",
    ],
)
@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "experiments/zoo/notes.md", "tests/x.py"])
def test_a_forbidden_word_is_caught(house: Path, name: str, text: str) -> None:
    before = SOUND.get(name, "# one\n")
    write(house, name, f"{before}# {text}\n")
    (fault,) = faults(house)
    assert fault.startswith(f"{name}:{1 + before.count(chr(10))}: names a")
