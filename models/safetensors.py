"""Reading and writing safetensors files as NumPy arrays.

A file is an 8-byte little-endian header length, a JSON header {name: {dtype, shape,
data_offsets}}, and raw row-major data. Reading maps the file into memory and returns views,
so a tensor costs nothing until it is touched. Everything a header can lie about is checked
before any tensor is built: a file is either wholly sound or refused.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

HEADER_LIMIT = 100_000_000
# Of one file: the largest published index has some ten thousand tensors.
ELEMENT_LIMIT = 2_000_000
DIGIT_LIMIT = 40
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies in a file; `start` counts from the beginning of the file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@runtime_checkable
class Tensors(Protocol):
    """Stored tensors by name, as `Reader` gives them."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """What there is, by name."""
        ...

    def read(self, name: str) -> np.ndarray:
        """One of them."""
        ...


class Reader:
    """One memory-mapped file: `entries` by tensor name, `read(name)` as a read-only view."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = _entries(path)
        self._map = np.memmap(path, np.uint8, "r") if self.entries else np.zeros(0, np.uint8)

    def read(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        raw = self._map[entry.start : entry.start + entry.nbytes]
        return raw.view(entry.dtype).reshape(entry.shape)


def brief(value: Any, most: int = 80) -> str:
    """How a value of a foreign file is shown in a message, whatever its size."""
    if isinstance(value, str | bytes):
        shown = repr(value[:most])
    elif isinstance(value, int | float | None):
        shown = repr(value) if not isinstance(value, int) or abs(value) < 10**most else "a huge int"
    elif isinstance(value, list) and len(value) < most:
        shown = f"[{', '.join(brief(item, 20) for item in value[:8])}{', ...' * (len(value) > 8)}]"
    elif isinstance(value, list | dict):
        shown = f"{type(value).__name__} of {len(value)}"
    else:
        shown = repr(value)
    return shown if len(shown) <= most else shown[: most - 3] + "..."


class Damaged(ValueError):
    """A file that is not what it claims to be; the message names it."""


def parse_json(text: bytes, source: Path) -> dict[str, Any]:
    """A JSON object without repeated keys, and no number that is not finite.

    Raises:
      ValueError: it is not that, or has more elements than any real file; nothing is built then.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise Damaged(f"{source}: {brief(twice)} appears twice; the file is not well-formed")
        return found

    def constant(name: str) -> float:
        raise Damaged(f"{source}: {name} is no JSON number")

    def real(digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else constant(brief(digits))

    def integer(digits: str) -> int:
        if len(digits) > DIGIT_LIMIT:
            raise Damaged(f"{source}: a number of {len(digits)} digits")
        return int(digits)

    elements = sum(map(text.count, (b",", b"[", b"{")))
    if elements > ELEMENT_LIMIT:
        raise Damaged(f"{source}: up to {elements} elements, more than any real file has")
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=unique,
            parse_constant=constant,
            parse_float=real,
            parse_int=integer,
        )
    except Damaged:
        raise
    except (ValueError, RecursionError) as error:  # bytes that are no text among them
        said = brief(str(error), 200)[1:-1]
        raise Damaged(f"{source} holds no valid JSON ({said}); fetch it again") from error
    if not isinstance(value, dict):
        raise Damaged(f"{source}: a JSON object was expected, not {type(value).__name__}")
    return value


def _entries(path: Path) -> dict[str, Entry]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, HEADER_LIMIT):
            raise ValueError(
                f"{path}: a header of {length} bytes does not fit its {size} bytes; the file is "
                "truncated or no safetensors file"
            )
        header = parse_json(file.read(length), path)
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, fields, 8 + length) for name, fields in header.items()}
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if entry.start != end:
            raise ValueError(
                f"{path}: tensor {brief(name)} starts at byte {entry.start}, not {end}: data "
                "overlap or leave gaps"
            )
        end += entry.nbytes
    if end != size:
        raise ValueError(
            f"{path}: {size} bytes, but its header describes {end}; the file is "
            f"{'truncated' if size < end else 'longer than it should be'}, fetch it again"
        )
    return entries


def _entry(path: Path, name: str, fields: Any, base: int) -> Entry:
    where = f"{path}: tensor {brief(name)}"
    if not isinstance(fields, dict):
        raise ValueError(f"{where} is described by {type(fields).__name__}, not an object")
    dtype, shape, offsets = (fields.get(k) for k in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{where} has dtype {brief(dtype)}; supported are {', '.join(DTYPES)}")
    dims, span = _naturals(where, "shape", shape), _naturals(where, "data_offsets", offsets)
    if len(span) != 2:
        raise ValueError(f"{where} has {len(span)} data_offsets, not a first and a last")
    entry = Entry(DTYPES[dtype], dims, base + span[0])
    if span[1] - span[0] != entry.nbytes:
        raise ValueError(
            f"{where} spans {span[1] - span[0]} bytes, but {dtype}{brief(shape)} needs "
            f"{brief(entry.nbytes)}"
        )
    return entry


def _naturals(where: str, name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        type(x) is int and 0 <= x < 2**62 for x in value[:65]
    ):
        raise ValueError(f"{where} has {name}={brief(value)}; natural numbers were expected")
    if len(value) > 64:
        raise ValueError(f"{where} has {len(value)} entries in {name}")
    return tuple(value)


def write(
    path: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    produce: Callable[[str], np.ndarray],
) -> None:
    """Write tensors in the order of `shapes`, asking `produce` for one at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, dtype) in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (shape, dtype) in shapes.items():
            tensor = produce(name)
            if tensor.shape != shape or tensor.dtype != dtype:
                raise ValueError(
                    f"tensor {name!r} is {tensor.dtype}{tensor.shape}, announced as {dtype}{shape}"
                )
            file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
