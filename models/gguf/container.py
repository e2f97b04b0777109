"""Reading GGUF files: metadata, and tensors as NumPy arrays.

A file is a header (magic, version, how many tensors and entries), the entries of metadata
(name, type, value), a table of tensors (name, sizes from the innermost out, type, offset) and,
from the next multiple of the alignment on, the tensors' data. All numbers are little-endian.
Reading maps the file into memory. Whatever a file can lie about is checked before it is used:
every count, length, offset and type, that data neither overlap nor leave gaps, and that the
file ends where they do. A file is either wholly sound or refused.

Quantised tensors come in blocks, each with scales of its own; the `gguf` package (extra
`checkpoints`) turns blocks into numbers.
"""

from __future__ import annotations

import importlib
import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

MAGIC, VERSIONS = b"GGUF", (2, 3)
# Above every published file; what is beyond is a mistake or an attack.
ENTRIES, TENSORS, ITEMS, NAME, TEXT = 2**16, 2**17, 2**22, 256, 2**24
ALIGNMENT = 32  # where general.alignment does not say otherwise
SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
           10: "<u8", 11: "<i8", 12: "<f8"}  # fmt: skip
PART = 2**12  # blocks made numbers at a time, whose temporaries stay in a cache
FLOAT32, BOOLEAN, STRING, ARRAY, LAST = 6, 7, 8, 9, 12


@dataclass(frozen=True)
class Kind:
    """A type of tensors: numbers come in blocks of `block`, of `size` bytes each."""

    name: str
    block: int
    size: int
    plain: np.dtype | None = None


KINDS = {
    0: Kind("F32", 1, 4, np.dtype("<f4")),
    1: Kind("F16", 1, 2, np.dtype("<f2")),
    30: Kind("BF16", 1, 2, np.dtype(jnp.bfloat16)),
    2: Kind("Q4_0", 32, 18),
    3: Kind("Q4_1", 32, 20),
    6: Kind("Q5_0", 32, 22),
    7: Kind("Q5_1", 32, 24),
    8: Kind("Q8_0", 32, 34),
    10: Kind("Q2_K", 256, 84),
    11: Kind("Q3_K", 256, 110),
    12: Kind("Q4_K", 256, 144),
    13: Kind("Q5_K", 256, 176),
    14: Kind("Q6_K", 256, 210),
    20: Kind("IQ4_NL", 32, 18),
    23: Kind("IQ4_XS", 256, 136),
}


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies; `shape` is row-major, `start` counts from the file's beginning."""

    kind: Kind
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.kind.block * self.kind.size

    @property
    def dtype(self) -> np.dtype:
        """Of what `Container.read` returns: float32 for blocks."""
        return self.kind.plain or np.dtype(np.float32)


class Container:
    """One file: `metadata` by name, `tensors` by name, `read(name)` as numbers.

    Texts, numbers and flags are Python's own, arrays are lists of them. A float32 is read as
    the shortest decimal that it rounds from: 1e-05 was meant, not 9.999999747378752e-06.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ValueError(f"{path} is no file")
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        cursor = _Cursor(path, self._map)
        tensors, entries = _opened(cursor)
        self.metadata: dict[str, Any] = {}
        for _ in range(entries):
            name = cursor.name(self.metadata)
            self.metadata[name] = cursor.value(name)
        listed = [_listed(cursor) for _ in range(tensors)]
        self.tensors = _placed(path, listed, _aligned(cursor, self.metadata), size)

    def read(self, name: str, place: int | None = None) -> np.ndarray:
        """A tensor's numbers, or those at one place of its first axis; a read-only view where
        they are stored as such."""
        raw, stored = self.raw(name), self.tensors[name]
        kind, shape = stored.kind, stored.shape
        if place is not None:  # blocks lie along the last axis
            raw, shape = raw.reshape(shape[0], -1)[place], shape[1:]
        if kind.plain is not None:
            return raw.view(kind.plain).reshape(shape)
        gguf = importlib.import_module("gguf")  # the package, not this folder
        code = gguf.GGMLQuantizationType[kind.name]
        blocks = raw.reshape(-1, kind.size)
        out = np.empty((len(blocks), kind.block), np.float32)
        for first in range(0, len(blocks), PART):
            part = blocks[first : first + PART]
            out[first : first + PART] = gguf.quants.dequantize(part.reshape(1, -1), code).reshape(
                -1, kind.block
            )
        return out.reshape(shape)

    def raw(self, name: str) -> np.ndarray:
        """A tensor's bytes, read-only."""
        stored = self.tensors[name]
        return np.frombuffer(self._map, np.uint8, stored.nbytes, stored.start)


class _Cursor:
    """A place in the bytes, that reads on and never beyond the end."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, count: int, what: str) -> bytes:
        left = len(self.data) - self.at
        if count > left:
            raise ValueError(
                f"{self.path}: {what} needs {count} bytes at byte {self.at}, and {left} are left; "
                "the file is truncated or damaged, fetch it again"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def natural(self, code: str, most: int, what: str) -> int:
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize(code), what))
        if value > most:
            raise ValueError(
                f"{self.path}: {what} is {value}, more than the {most} of any real one"
            )
        return value

    def text(self, most: int, what: str) -> str:
        raw = self.take(self.natural("Q", most, f"the length of {what}"), what)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: {what} is no UTF-8 text ({error})") from error

    def name(self, known: dict[str, Any]) -> str:
        name = self.text(NAME, "a name")
        if not name or not name.isascii() or not name.isprintable():
            raise ValueError(f"{self.path}: {name!r} is no name")
        if name in known:
            raise ValueError(f"{self.path}: {name!r} appears twice; the file is not well-formed")
        return name

    def value(self, name: str) -> Any:
        code = self.natural("I", LAST, f"the type of {name}")
        if code != ARRAY:
            return self.items(code, 1, name)[0]
        code = self.natural("I", LAST, f"the type of {name}'s items")
        return self.items(code, self.natural("Q", ITEMS, f"the length of {name}"), name)

    def items(self, code: int, count: int, name: str) -> list[Any]:
        if code == STRING:
            return [self.text(TEXT, name) for _ in range(count)]
        if code not in SCALARS:
            raise ValueError(f"{self.path}: {name} holds items of type {code}, which are not read")
        dtype = np.dtype("u1" if code == BOOLEAN else SCALARS[code])
        values = np.frombuffer(self.take(count * dtype.itemsize, name), dtype)
        if code == BOOLEAN and values.max(initial=0) > 1:
            raise ValueError(f"{self.path}: {name} is neither true nor false")
        if code == FLOAT32 and count == 1:
            return [float(str(values[0]))]
        return values.astype(bool).tolist() if code == BOOLEAN else values.tolist()


def _opened(cursor: _Cursor) -> tuple[int, int]:
    """How many tensors and entries a file has, once it is known to be one."""
    magic, version = cursor.take(4, "the header"), cursor.natural("I", 2**32, "the version")
    if magic != MAGIC:
        raise ValueError(f"{cursor.path}: it begins with {magic!r}; it is no GGUF file")
    if version not in VERSIONS:
        turned = int.from_bytes(version.to_bytes(4, "little"), "big")
        reason = "it was written for a big-endian machine" if turned in VERSIONS else "unknown here"
        raise ValueError(f"{cursor.path}: GGUF version {version} is {reason}; known are {VERSIONS}")
    tensors = cursor.natural("Q", TENSORS, "the number of tensors")
    return tensors, cursor.natural("Q", ENTRIES, "the number of entries")


def _listed(cursor: _Cursor) -> tuple[str, Kind, tuple[int, ...], int]:
    """One line of the table: name, type, shape, offset."""
    name = cursor.name({})
    what = f"tensor {name!r}"
    sizes = [
        cursor.natural("Q", 2**40, f"a size of {what}")
        for _ in range(cursor.natural("I", 4, f"the number of sizes of {what}"))
    ]
    code = cursor.natural("I", 2**32, f"the type of {what}")
    if code not in KINDS:
        known = ", ".join(kind.name for kind in KINDS.values())
        raise ValueError(f"{cursor.path}: {what} has type {code}; supported are {known}")
    kind = KINDS[code]
    if not sizes or 0 in sizes or sizes[0] % kind.block:
        raise ValueError(
            f"{cursor.path}: {what} has sizes {sizes}; positive ones were expected, rows of "
            f"{kind.name} in blocks of {kind.block}"
        )
    return name, kind, tuple(reversed(sizes)), cursor.natural("Q", 2**62, f"the offset of {what}")


def _aligned(cursor: _Cursor, metadata: dict[str, Any]) -> tuple[int, int]:
    """Where the data begin, and the alignment."""
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise ValueError(f"{cursor.path}: general.alignment={alignment!r} must be a power of two")
    return cursor.at + -cursor.at % alignment, alignment


def _placed(
    path: Path,
    listed: list[tuple[str, Kind, tuple[int, ...], int]],
    aligned: tuple[int, int],
    size: int,
) -> dict[str, Stored]:
    """The tensors by name, in order of their data, which must fill the rest of the file."""
    base, alignment = aligned
    tensors: dict[str, Stored] = {}
    end = base
    for name, kind, shape, offset in sorted(listed, key=lambda line: line[3]):
        if name in tensors:
            raise ValueError(f"{path}: tensor {name!r} appears twice; the file is not well-formed")
        stored = Stored(kind, shape, base + offset)
        if stored.start != end + -(end - base) % alignment:
            raise ValueError(
                f"{path}: tensor {name!r} starts at byte {stored.start}, not where the one before "
                f"it ends, {end}: data overlap or leave gaps"
            )
        tensors[name] = stored
        end = stored.start + stored.nbytes
    if not end <= size < end + alignment and tensors:
        raise ValueError(
            f"{path}: {size} bytes, but its table describes {end}; the file is "
            f"{'truncated' if size < end else 'longer than it should be'}, fetch it again"
        )
    return tensors
