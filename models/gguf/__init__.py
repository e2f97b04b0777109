"""GGUF files, seen as the published folders that they were made of.

    Opened(path).config     config.json, from the metadata
    Opened(path).entries    tensors by their published names, as `models.safetensors.Reader` has
    Opened(path).read(name) them: blocks made numbers, rows in their published order
    tokenizer.load(path)    the tokenizer, with its chat template

`models.checkpoints.load` and `models.tokenizer_files.load_tokenizer` take such a file where
they take a folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from models.gguf.opened import Opened


def is_file(path: str | os.PathLike) -> bool:
    """Whether `path` names a GGUF file rather than a folder."""
    return Path(path).suffix == ".gguf" and not Path(path).is_dir()


__all__ = ["Opened", "is_file"]
