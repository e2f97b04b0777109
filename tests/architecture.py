"""The rules of the house, as functions from a root folder to what breaks them.

Each function yields one line per fault, `path[:line]: what is wrong`, and nothing when all is well.
Files are read, never imported, so a broken tree is reported and not run.
"""

import ast
import functools
import itertools
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGES = ("jaxdecode", "models", "algorithms")
HOUSES = (*PACKAGES, "experiments", "tests")
# Who may import whom; the rest of the houses are out of bounds.
ARROWS = {
    "jaxdecode": {"jaxdecode"},
    "models": {"jaxdecode", "models"},
    "algorithms": {"jaxdecode", "algorithms"},
    "experiments": {"jaxdecode", "models", "algorithms", "experiments"},
}
ENGINES = ("autoregress", "speculate", "population", "arena", "unmask")
ENGINE_LINES, FILE_LINES = 250, 300
CONFORMANCE = "tests/conformance"

# The rooms of `experiments`, from the ground up: a room imports itself and what lies below it.
# Rooms of one floor are strangers.
FLOORS = (
    {"harness", "sandbox"},
    {"tasks"},
    {"zoo"},
    {"inputs"},
    {"selection", "speculative", "search", "alignment", "agents", "tokens", "diffusion"},
    {"bench", "commands"},
)
ROOM_ENTRIES = 16  # what a folder may show, `__init__.py` left out
# What an extra brings under another name, and what is run and not imported.
MODULES = {"orbax-checkpoint": "orbax", "huggingface-hub": "huggingface_hub"}
TOOLS = {"ruff": "-m ruff", "pyright": "-m pyright", "pytest-xdist": "--dist", "pdoc": "-m pdoc"}

# What no file may say. Written so that no pattern matches its own text.
FORBIDDEN = {
    "path of one machine": r"(?<![\w.:/-])/(?:home|root|Users|work)/\w",
    "package index's host": r"--(?:extra-)?index[-]url|pypi\.org|pythonhosted\.[o]rg|find[-]links",
    "unfinished work": r"\b(?:TO[D]O|FIX[M]E|XX[X])\b",
    "shared folder": r"\.\./[s]hared\b",
}
TEXT = {".py", ".toml", ".txt", ".md", ".json", ".jsonl", ".yml", ".yaml", ".sh", ".cfg"}


def sources(root: Path, *houses: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every Python file of the houses, parsed, in the order of its path."""
    for house in houses:
        for path in sorted((root / house).rglob("*.py")):
            yield path, _parsed(path.read_text(encoding="utf-8"))


@functools.cache
def _parsed(text: str) -> ast.Module:
    """Every check reads the whole house; it is parsed once."""
    return ast.parse(text)


def imports(root: Path, path: Path, tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """(line, absolute module, whether it runs when the file is imported) of every import."""
    package = path.relative_to(root).parent.parts
    deferred = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            continue
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(level=0, module=str(module)):
                names = [module]
                if module in HOUSES:  # what is imported from a house is a room of it
                    names = [f"{module}.{alias.name}" for alias in node.names]
            case ast.ImportFrom(level=level, module=module):
                above = package[: len(package) - level + 1]
                # `from .. import models` at a house's top reaches what lies beside the house.
                tails = [module] if module else [alias.name for alias in node.names]
                names = [".".join((*above, tail)) for tail in tails]
            case ast.Call(func=func, args=[ast.Constant(value=str(module)), *_]):
                if ast.unparse(func).endswith(("import_module", "__import__")):
                    names = [module]
        for name in names:
            yield node.lineno, name, id(node) not in deferred


def wrong_arrows(root: Path) -> Iterator[str]:
    """Imports from one house into another that the plan does not draw."""
    for house, allowed in ARROWS.items():
        for path, tree in sources(root, house):
            for line, name, _ in imports(root, path, tree):
                other = name.split(".")[0]
                if other in HOUSES and other not in allowed:
                    yield f"{path.relative_to(root)}:{line}: {house} imports {name}"


def undeclared_imports(root: Path) -> Iterator[str]:
    """Imports at the top of a packaged module that a plain install does not bring.

    What an extra brings (safetensors, torch, ...) is imported where it is used, in a function.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    modules = {{"orbax-checkpoint": "orbax"}.get(name, name) for name in core}
    known = modules | set(HOUSES) | sys.stdlib_module_names
    for path, tree in sources(root, *PACKAGES):
        for line, name, at_import in imports(root, path, tree):
            if at_import and name.split(".")[0] not in known:
                yield f"{path.relative_to(root)}:{line}: {name} is no core dependency"


def long_files(root: Path) -> Iterator[str]:
    """Packaged files too long to be one noun."""
    engines = {root / "jaxdecode" / f"{name}.py" for name in ENGINES}
    for path, _ in sources(root, *PACKAGES):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        limit = ENGINE_LINES if path in engines else FILE_LINES
        if lines > limit:
            yield f"{path.relative_to(root)}: {lines} lines, of at most {limit}"


def undocumented_modules(root: Path) -> Iterator[str]:
    """Modules that do not open by saying what they are, and packages that hide their types."""
    for path, tree in sources(root, *PACKAGES, "experiments"):
        if not ast.get_docstring(tree):
            yield f"{path.relative_to(root)}: no docstring"
    for package in PACKAGES:
        if not (root / package / "py.typed").is_file():
            yield f"{package}: no py.typed"


def undocumented_symbols(root: Path) -> Iterator[str]:
    """Public classes and functions without a docstring, which the API's pages would show bare.

    A method may leave it to the protocol: one documented method of its name is enough.
    """
    found = [(path, tree) for path, tree in sources(root, *PACKAGES)]
    told = {
        method.name
        for _, tree in found
        for _, method in _methods(tree)
        if ast.get_docstring(method)
    }
    for path, tree in found:
        here = path.relative_to(root)
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if public and not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{here}:{node.lineno}: {node.name} has no docstring"
        for owner, method in _methods(tree):
            if not method.name.startswith("_") and method.name not in told:
                yield f"{here}:{method.lineno}: no {method.name} like {owner}'s has a docstring"


def _methods(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield node.name, method


def records(root: Path) -> Iterator[tuple[Path, str | None]]:
    """(module, slug) of every module-level `PAPER = Paper(slug="...", ...)` in algorithms."""
    for path, tree in sources(root, "algorithms"):
        for node in tree.body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id="PAPER")], value=ast.expr() as value)
                    | ast.AnnAssign(target=ast.Name(id="PAPER"), value=ast.expr() as value)
                ):
                    yield path, _slug(value)


def _slug(value: ast.expr) -> str | None:
    if not isinstance(value, ast.Call):
        return None
    given = [keyword.value for keyword in value.keywords if keyword.arg == "slug"]
    for node in [*given, *value.args[:1]]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
    return None


def unkept_promises(root: Path) -> Iterator[str]:
    """Papers without an experiment, a conformance row or a row of the README's table."""
    tables = sorted((root / CONFORMANCE).glob("*.py"))
    conformance, readme = "\n".join(map(_read, tables)), _read(root / "README.md")
    rows = "\n".join(line for line in readme.splitlines() if line.lstrip().startswith("|"))
    first: dict[str, Path] = {}
    for path, slug in records(root):
        here = path.relative_to(root)
        if slug is None:
            yield f"{here}: PAPER is no Paper(slug=...) with the slug written out"
            continue
        if slug in first:
            yield f"{here}: PAPER of {slug!r} is already in {first[slug]}; import it from there"
            continue
        first[slug] = here
        word = re.compile(rf"(?<!\w){re.escape(slug)}(?!\w)")
        family = f"experiments/{path.relative_to(root / 'algorithms').parts[0]}"
        if not any((root / family / name).is_file() for name in (f"{slug}.py", f"{slug}/main.py")):
            yield f"{here}: neither {family}/{slug}.py nor {family}/{slug}/main.py"
        if not word.search(conformance):
            yield f"{here}: no row for {slug!r} in {CONFORMANCE}"
        if not word.search(rows):
            yield f"{here}: no row for {slug!r} in a table of README.md"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def forbidden_words(root: Path) -> Iterator[str]:
    """Text that belongs to one machine, to one install, or to later."""
    top = [path for path in root.iterdir() if path.is_file()]
    inner = [path for house in (*HOUSES, ".ci", ".github") for path in (root / house).rglob("*")]
    for path in sorted(top + inner):
        named = path.suffix in TEXT or path.name in {"Makefile", "run"}
        if not (named and path.is_file()):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for what, pattern in FORBIDDEN.items():
                if re.search(pattern, line):
                    yield f"{path.relative_to(root)}:{number}: names a {what}"


def wrong_floors(root: Path) -> Iterator[str]:
    """Imports inside `experiments` that go up, or sideways from one family to another."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for path, tree in sources(root, "experiments"):
        here = path.relative_to(root / "experiments").parts
        if len(here) == 1:
            continue  # what starts everything knows every room
        if here[0] not in floor:
            yield f"experiments/{here[0]}: no room of the plan; give it a floor in tests"
            continue
        for line, name, _ in imports(root, path, tree):
            house, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if house != "experiments" or room in ("", here[0]):
                continue
            if floor.get(room, len(FLOORS)) >= floor[here[0]]:
                yield f"{path.relative_to(root)}:{line}: {here[0]} imports {room}"


def crowded_rooms(root: Path) -> Iterator[str]:
    """Folders of experiments and their tests that show too much at once."""
    for house in ("experiments", "tests/experiments"):
        for folder in (root / house, *sorted((root / house).rglob("*/"))):
            names = {path.name for path in folder.iterdir()} - {"__init__.py", "__pycache__"}
            held = any((folder / name).suffix == ".py" for name in names) or folder == root / house
            if held and len(names) > ROOM_ENTRIES:
                here = folder.relative_to(root)
                yield f"{here}: {len(names)} entries, of at most {ROOM_ENTRIES}"


def unmirrored_tests(root: Path) -> Iterator[str]:
    """Folders of tests that are no folders of what they test."""
    for house in ("experiments", *PACKAGES):
        for path in sorted((root / "tests" / house).rglob("test_*.py")):
            folder = path.parent.relative_to(root / "tests")
            if not (root / folder).is_dir():
                yield f"{path.relative_to(root)}: there is no {folder}"


def unused_extras(root: Path) -> Iterator[str]:
    """Declared requirements that nothing imports and no target runs."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    lines = itertools.chain(project["dependencies"], *extras)
    commands = _read(root / "Makefile") + _read(root / ".ci" / "run")
    used = {
        name.split(".")[0]
        for path, tree in sources(root, *HOUSES)
        for _, name, _ in imports(root, path, tree)
    } | {word for path, tree in sources(root, *HOUSES) for word in _found_specs(tree)}
    for name in sorted({re.split(r"[^\w.-]", line)[0] for line in lines}):
        module = MODULES.get(name, name.replace("-", "_"))
        if module not in used and (name not in TOOLS or TOOLS[name] not in commands):
            yield f"pyproject.toml: {name} is declared and not used"


def _found_specs(tree: ast.Module) -> Iterator[str]:
    """Modules that are looked for before they are used: `find_spec("name")`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func, args=[ast.Constant(value=str(module)), *_]):
                if ast.unparse(func).endswith(("find_spec", "importorskip")):
                    yield module.split(".")[0]


CHECKS: tuple[Callable[[Path], Iterator[str]], ...] = (
    wrong_arrows,
    undeclared_imports,
    long_files,
    undocumented_modules,
    undocumented_symbols,
    unkept_promises,
    forbidden_words,
    wrong_floors,
    crowded_rooms,
    unmirrored_tests,
    unused_extras,
)
