"""The files of a published checkpoint: config.json, and safetensors in one file or in shards.

Nothing in a folder is trusted: sizes are bounded, names are checked, and an index may list files
of its own folder only. Pickled weights are never opened.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import safetensors
from models.advice import advice

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
JSON_LIMIT = 64_000_000


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError where it is missing, too large or none."""
    if not path.is_file():
        known = advice(path.parent) if path.name == CONFIG else None
        raise ValueError(f"{path} is missing; {known or 'a checkpoint folder needs it'}")
    if path.stat().st_size > JSON_LIMIT:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than any real one")
    # Some editors put a mark before what they store.
    return safetensors.parse_json(path.read_bytes().removeprefix(codecs.BOM_UTF8), path)


def open_tensors(folder: Path) -> dict[str, safetensors.Reader]:
    """Tensor name -> the open file that holds it."""
    index, single = folder / INDEX, folder / WEIGHTS
    if index.is_file():
        files = _index(index)
    elif single.is_file():
        files = {WEIGHTS: None}
    else:
        reason = advice(folder) or f"neither {WEIGHTS} nor {INDEX} is there"
        raise ValueError(f"{folder}: {reason}")
    readers: dict[str, safetensors.Reader] = {}
    for name, listed in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing, though {INDEX} lists it")
        reader = safetensors.Reader(path)
        if listed is not None and listed != set(reader.entries):
            odd = sorted(listed ^ set(reader.entries))[0]
            raise ValueError(f"{path} and {INDEX} disagree on whether it holds {odd!r}")
        readers |= dict.fromkeys(reader.entries, reader)
    for name in readers:
        # Names end up in messages and in exported files; none of ours has such characters.
        if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,256}", name) or ".." in name:
            raise ValueError(f"{folder}: {safetensors.brief(name)} is no tensor name")
    return readers


def check_tensor(
    readers: Mapping[str, safetensors.Tensors],
    name: str,
    shape: tuple[int, ...],
    holds: str,
    folder: Path,
    config: str,
) -> None:
    """That a stored tensor is there, of a shape and of floats.

    Args:
      holds: what it is, for the message; config: the file that asks for the shape.
    Raises:
      ValueError: naming the folder and the tensor.
    """
    if name not in readers:
        raise ValueError(f"{folder}: tensor {name!r} is missing; it holds {holds}")
    entry = readers[name].entries[name]
    if entry.shape != shape:
        raise ValueError(
            f"{folder}: tensor {name!r} has shape {entry.shape}, but {config} asks for {shape}"
        )
    if entry.dtype.kind not in "fV":  # bfloat16 counts as V
        raise ValueError(
            f"{folder}: tensor {name!r} holds {entry.dtype}, not floats; quantised checkpoints "
            "are not supported"
        )


def _index(path: Path) -> dict[str, set[str]]:
    """File name -> tensors listed in it; files must lie in the index's own folder."""
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{path}: weight_map is missing or empty")
    files: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w\-][\w.\-]*\.safetensors", file):
            raise ValueError(
                f"{path}: {safetensors.brief(tensor)} is said to be in {safetensors.brief(file)}; "
                "a safetensors file of the same folder was expected"
            )
        files.setdefault(file, set()).add(tensor)
    return files
