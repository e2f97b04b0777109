"""Heads as files: `head.json`, which names the target it was trained for, and safetensors.

A head is worth nothing on another target, so it carries its target's fingerprint and is refused
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import safetensors
from models.transformer import Transformer, arrays_of

CONFIG, WEIGHTS = "head.json", "head.safetensors"
SAMPLES = 4096


@runtime_checkable
class Head(Protocol):
    """A module that `of(target, rngs=..., **settings)` makes."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its constructor takes besides the weights, as JSON."""
        ...


H = TypeVar("H", bound=Any)


def fingerprint(target: Transformer) -> str:
    """A digest of a model's weights, the same in every precision down to bfloat16.

    Of each weight, up to 4096 entries at equal distances count.
    """
    digest = hashlib.sha256()
    for path, array in arrays_of(target).items():
        # On a CPU the host reads it where it lies, with no program for every shape.
        near = all(device.platform == "cpu" for device in array.devices())
        flat = (np.asarray(array) if near and array.is_fully_addressable else array).reshape(-1)
        sampled = flat[:: -(-flat.size // SAMPLES)].astype(jnp.bfloat16)
        digest.update(f"{path}{array.shape}".encode())
        digest.update(np.asarray(sampled).tobytes())
    return digest.hexdigest()


def save(
    head: Head, folder: str | os.PathLike, target: Transformer, dtype: str = "float32"
) -> None:
    """Write a head of `target`, its weights in `dtype`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {path: np.asarray(array.astype(dtype)) for path, array in _arrays(head).items()}
    shapes = {path: (array.shape, array.dtype) for path, array in arrays.items()}
    said = {
        "head": type(head).__name__,
        "settings": dict(head.settings),
        "target": fingerprint(target),
    }
    safetensors.write(folder / WEIGHTS, shapes, arrays.__getitem__)
    (folder / CONFIG).write_text(json.dumps(said, indent=2) + "\n")


def kind(folder: str | os.PathLike, known: Container[str]) -> str:
    """The class of the head in a folder, by name.

    Raises:
      ValueError: there is none, or none that is known.
    """
    said = _said(Path(folder))
    if said["head"] not in known:
        raise ValueError(f"{folder}: a head of class {said['head']!r} is not known")
    return said["head"]


def load(kind: type[H], folder: str | os.PathLike, target: Transformer) -> H:
    """Open a head of class `kind` for `target`, in the target's precision.

    Raises:
      ValueError: it is another kind of head, belongs to another target, or its weights are not
        those of its settings.
    """
    folder = Path(folder)
    said = _said(folder)
    if said["head"] != kind.__name__:
        raise ValueError(f"{folder} holds a {said['head']}, not a {kind.__name__}")
    if said["target"] != fingerprint(target):
        raise ValueError(
            f"{folder}: this head was trained for another target; open that one, or train a head "
            "for this one"
        )
    head = nnx.eval_shape(lambda: kind.of(target, rngs=nnx.Rngs(0), **said["settings"]))
    reader = safetensors.Reader(folder / WEIGHTS)
    wanted = _arrays(head)
    for path in wanted.keys() ^ reader.entries.keys():
        where = "missing" if path in wanted else "unknown"
        raise ValueError(f"{folder / WEIGHTS}: tensor {path!r} is {where}")
    graph, state = nnx.split(head)
    flat = dict(nnx.to_flat_state(state))
    for path, param in flat.items():
        name = "/".join(map(str, path))
        tensor = reader.read(name)
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{folder / WEIGHTS}: tensor {name!r} has shape {tensor.shape}, not the "
                f"{wanted[name].shape} of its settings"
            )
        # A copy, for the file may change.
        flat[path] = param.replace(jax.device_put(np.array(tensor, target.dtype)))
    return nnx.merge(graph, nnx.from_flat_state(flat))


def _said(folder: Path) -> dict[str, Any]:
    """The contents of head.json."""
    if not (folder / CONFIG).is_file():
        raise ValueError(f"folder={folder}: there is no {CONFIG}, so no head")
    said = safetensors.parse_json((folder / CONFIG).read_bytes(), folder / CONFIG)
    for field, type_ in (("head", str), ("settings", dict), ("target", str)):
        if not isinstance(said.get(field), type_):
            raise ValueError(f"{folder / CONFIG}: {field} is missing or no {type_.__name__}")
    return said


def _arrays(head: Any) -> dict[str, Any]:
    """Path -> array of every parameter."""
    state = nnx.to_flat_state(nnx.state(head, nnx.Param))
    return {"/".join(map(str, path)): param.get_value() for path, param in state}
