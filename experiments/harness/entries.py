"""What can be run: `python -m experiments NAME`, found by listing folders.

An experiment is a module that defines `PRESETS` and `run`; a command is one of `commands/` that
defines `main`. Either is `FOLDER/NAME.py`, or `FOLDER/NAME/main.py` where it has parts. Files are
read, never imported, so that listing costs nothing and a broken one breaks no other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
MAIN = "main"


@dataclass(frozen=True)
class Entry:
    """A module that can be run by name.

    Attributes:
      name: what it is called on the command line.
      module: where it lies, dotted.
      about: the first line of its docstring.
      presets: names of its presets; a command has none.
    """

    name: str
    module: str
    about: str
    presets: tuple[str, ...]

    @property
    def family(self) -> str:
        """The folder of `experiments` that it lies in."""
        return self.module.split(".")[1]


def entries(house: Path = HOUSE) -> dict[str, Entry]:
    """Name -> entry, by folder and name.

    Raises:
      ValueError: if two modules go by one name.
    """
    found: dict[str, Entry] = {}
    for path in sorted([*house.glob("*/*.py"), *house.glob(f"*/*/{MAIN}.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        presets = _presets(tree)
        command = path.relative_to(house).parts[0] == "commands" and "main" in _functions(tree)
        if presets is None and not command:
            continue
        module = ".".join((house.name, *path.relative_to(house).with_suffix("").parts))
        about = (ast.get_docstring(tree) or "").partition("\n")[0]
        entry = Entry(name_of(module), module, about, presets or ())
        if entry.name in found:
            raise ValueError(
                f"{entry.name!r} is {found[entry.name].module} and {module}; rename one of them"
            )
        found[entry.name] = entry
    return found


def name_of(module: str) -> str:
    """What a module is called on the command line: its own name, or its folder's."""
    *folders, name = module.split(".")
    return folders[-1] if name == MAIN and folders else name


def _presets(tree: ast.Module) -> tuple[str, ...] | None:
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="PRESETS")], value=ast.Dict(keys=keys))
                | ast.AnnAssign(target=ast.Name(id="PRESETS"), value=ast.Dict(keys=keys))
            ):
                return tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
    return None


def _functions(tree: ast.Module) -> Iterator[str]:
    return (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
