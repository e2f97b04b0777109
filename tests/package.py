"""The wheel and the sdist, as a stranger gets them: built, installed alone, and put to use.

    python -m tests.package      (make package)

Each goes into an environment of its own, without this checkout in reach, and runs the README's
first program there on a small model that is made on the spot. In the wheel's, pyright is asked
whether every public name of the typed packages says its types.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from flax import nnx

from experiments.tasks.tokenizer import byte_pairs
from models import export
from models.presets import small
from models.transformer import Transformer
from tests.experiments.folders import companions

ROOT = Path(__file__).resolve().parents[1]
MODEL = "path/to/model"
TYPED = ("jaxdecode", "algorithms")


def program() -> str:
    """The first block of Python in the README.

    Raises:
      ValueError: if there is none, or it opens no model by a path.
    """
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    if found is None or MODEL not in found[1]:
        raise ValueError(f"README.md: its first block of Python must open {MODEL!r}")
    return found[1]


def tiny(folder: Path) -> Path:
    """A model that says nothing in particular, as a published folder with a chat template."""
    codec = byte_pairs(["one plus one is two", "the cat sat on the mat"], 270)
    config = small(codec.vocab_size, hidden=32, layers=1, max_positions=1024)
    model = Transformer(config, rngs=nnx.Rngs(0))
    export.save(model, folder, family="llama", tokenizer=companions(folder.parent / "words", codec))
    return folder


def attempt(package: Path, place: Path, model: Path) -> None:
    """Install one file alone and run the README's program."""
    venv.create(place / "env", with_pip=True)
    python = place / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--constraint", ROOT / "constraints.txt", f"{package}[checkpoints]"], place)
    (place / "program.py").write_text(program().replace(MODEL, str(model)))
    run([python, "-I", "program.py"], place)
    print(f"{package.name}: installed alone, the README's program runs", flush=True)


def complete(place: Path) -> None:
    """Ask pyright of the packages in an environment, from outside of this checkout."""
    own = {"PATH": os.pathsep.join([str(place / "env" / "bin"), os.environ["PATH"]])}
    for package in TYPED:
        command = [sys.executable, "-m", "pyright", "--verifytypes", package, "--ignoreexternal"]
        found = subprocess.run(
            command, cwd=place, env=os.environ | own, capture_output=True, text=True, check=False
        )
        if found.returncode:
            raise SystemExit(found.stdout)
        print(f"{package}: every public name says its types", flush=True)


def run(command: list, place: Path) -> None:
    subprocess.run([str(part) for part in command], cwd=place, check=True)


def main() -> None:
    """Build both, try both."""
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        run([sys.executable, "-m", "build", "--outdir", here / "dist", ROOT], here)
        model = tiny(here / "model")
        for kind in ("*.whl", "*.tar.gz"):
            (made,) = (here / "dist").glob(kind)
            attempt(made, here / made.suffix[1:], model)
        complete(here / "whl")


if __name__ == "__main__":
    main()
