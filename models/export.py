"""Writing a model as a published checkpoint that `transformers` opens.

The folder appears complete or not at all: everything is written to a hidden neighbour and
renamed at the end. Weights leave the device one stacked parameter at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from models import safetensors
from models.checkpoint_files import CONFIG, INDEX, WEIGHTS
from models.families import Source, family_of, to_hf
from models.parameters import parameters
from models.text import Tokenizer
from models.tokenizer_files import save_tokenizer
from models.transformer import Transformer, arrays_of

# Text files that travel with a model's weights.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


def save(
    model: Transformer,
    folder: str | os.PathLike,
    *,
    family: str | None = None,
    tokenizer: str | os.PathLike | Tokenizer | None = None,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    max_shard_bytes: int = 5_000_000_000,
    overwrite: bool = False,
) -> None:
    """Write config.json, safetensors (sharded where large) and companions.

    Args:
      family: `model_type` to write as; by default the first that can express the config.
      tokenizer: folder whose tokenizer and generation settings are copied along, or a tokenizer
        to be written.
      config: further fields of config.json, such as token ids.
      tensors: further tensors by their published names, such as a reward head.
      overwrite: replace an existing folder.
    Raises:
      ValueError: if the folder exists, the family cannot express the model, or its weights
        are spread over several processes.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise ValueError(f"{folder} exists; choose another folder or pass overwrite=True")
    arrays = arrays_of(model)
    for path, array in arrays.items():
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            raise ValueError(f"{path} is spread over several processes; gather the model first")
    kind = None if family is None else family_of({"model_type": family})
    written = to_hf(model.config, kind) | {"dtype": model.dtype.name}
    written |= {"torch_dtype": model.dtype.name, "valid_vocab_size": model.vocab_size}
    plan = _Plan(model, arrays, dict(tensors or {}), family_of(written))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        text = json.dumps(written | dict(config or {}), indent=2) + "\n"
        (partial / CONFIG).write_text(text)
        _write_weights(partial, plan, max_shard_bytes)
        if isinstance(tokenizer, Tokenizer):
            save_tokenizer(tokenizer, partial)
        else:
            for name in COMPANIONS if tokenizer is not None else ():
                source = Path(tokenizer or "") / name
                if source.is_file():
                    shutil.copyfile(source, partial / name)
        partial.chmod(0o755)
        if folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            os.replace(folder, aside / "old")
            os.replace(partial, folder)
            shutil.rmtree(aside)
        else:
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Plan:
    """Which stored tensors there are, and how to make each from the stacked parameters."""

    def __init__(self, model: Transformer, arrays, tensors, family) -> None:
        self.arrays, self.tensors = arrays, tensors
        self.shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self.parts: dict[str, list[tuple[str, tuple[int, ...], Source]]] = {}
        names, dtype = family.names(model.config), np.dtype(model.dtype)
        for path, want in parameters(model.config).items():
            source = names[path]
            for place, name in source.named(want.shape):
                self.shapes[name] = (source.shape(want.shape), dtype)
                self.parts.setdefault(name, []).append((path, place, source))
        for name, tensor in tensors.items():
            if name in self.shapes:
                raise ValueError(f"tensors[{name!r}] is a name of the model's own weights")
            self.shapes[name] = (tensor.shape, tensor.dtype)
        self._host: dict[str, np.ndarray] = {}

    def produce(self, name: str) -> np.ndarray:
        if name in self.tensors:
            return self.tensors[name]
        shape, dtype = self.shapes[name]
        parts = self.parts[name]
        wanted = {path for path, _, _ in parts}
        # Tensors come in the order of our parameters, so only these need be on the host.
        self._host = {path: array for path, array in self._host.items() if path in wanted}
        out = np.zeros(shape, dtype)
        for path, place, source in parts:
            if path not in self._host:
                self._host[path] = np.asarray(self.arrays[path])
            ours = self._host[path][place]
            view = out.T if source.transpose else out
            width = ours.shape[-1]
            view[..., source.offset : source.offset + width] = ours
        return out


def _write_weights(folder: Path, plan: _Plan, max_shard_bytes: int) -> None:
    """One file, or numbered shards with an index; a shard has at least one tensor."""
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes={max_shard_bytes} must be at least 1")
    shards: list[dict[str, tuple[tuple[int, ...], np.dtype]]] = [{}]
    filled = total = 0
    for name, (shape, dtype) in plan.shapes.items():
        size = int(np.prod(shape)) * dtype.itemsize
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = (shape, dtype)
        filled, total = filled + size, total + size
    if len(shards) == 1:
        safetensors.write(folder / WEIGHTS, shards[0], plan.produce)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        safetensors.write(folder / file, shard, plan.produce)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
