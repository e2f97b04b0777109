"""Write a model as a published folder, which this project, transformers and others open.

python -m experiments convert FILE_OR_NAME OUT [--dtype float32|float16|bfloat16]

FILE is a .gguf file, quantised or not, a published folder, or a zoo name. The folder holds
config.json, safetensors, the tokenizer and its chat template. Blocks become plain numbers: a file
of 4 bits a weight grows about seven times in float32, and loses nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.harness.entries import HOUSE


def run(name: str, out: Path, dtype: str | None, overwrite: bool) -> None:
    """Read, and write.

    Raises:
      ValueError: for what cannot be opened, or a folder that is there.
    """
    # Deferred: help and a mistyped option should not wait for JAX.
    from experiments.inputs.publishing import publish
    from experiments.inputs.sources import folder_of
    from models import checkpoints
    from models.tokenizer_files import load_tokenizer

    path = folder_of(name)
    known = load_tokenizer(path).check_rows(checkpoints.Checkpoint(path).config.rows)
    model = checkpoints.load(path, dtype=dtype, vocab_size=known)
    family = publish(model, name, out, overwrite)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(
        f"{out}: {family}, {model.dtype.name}, {size / 1e6:.0f} MB; try\n"
        f"  python -m {HOUSE.name} generate --model {out} --chat --decoder greedy --prompts Hello"
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {HOUSE.name} convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="FILE", help="a .gguf file, a folder or a zoo name")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to be written")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="of the stored weights (as they are if not given; blocks become float32)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that is there")
    given = parser.parse_args(arguments)
    try:
        run(given.model, given.out, given.dtype, given.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
