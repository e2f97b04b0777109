"""The file format: what the `gguf` package writes is read, and nothing unsound is read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.gguf.container import KINDS, Container


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(name: str | bytes, code: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", code) + value


def tensor(name: str | bytes, sizes: list[int], code: int, offset: int) -> bytes:
    line = text(name) + struct.pack("<I", len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    return line + struct.pack("<IQ", code, offset)


def raw(
    path: Path,
    entries: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: bytes = bytes(64),
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> Path:
    """A file with anything at all in it; by default two sound tensors."""
    entries = [entry("a", 4, struct.pack("<I", 7))] if entries is None else entries
    tensors = [tensor("x", [3, 2], 0, 0), tensor("y", [4], 0, 32)] if tensors is None else tensors
    shown = (len(tensors), len(entries)) if counts is None else counts
    head = magic + struct.pack("<IQQ", version, *shown) + b"".join(entries) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def test_what_the_package_writes_is_read(tmp_path: Path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_uint32("whole", 7)
    writer.add_int32("negative", -7)
    writer.add_float32("small", 1e-5)
    writer.add_float64("double", 0.1)
    writer.add_bool("flag", True)
    writer.add_string("text", "été")
    writer.add_array("names", ["a", "", "c"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("flags", [True, False])
    rng = np.random.default_rng(0)
    tensors = {
        "a": rng.normal(size=(3, 5)).astype(np.float32),
        "b": rng.normal(size=(7,)).astype(np.float16),
        "c": rng.normal(size=(2, 3, 4)).astype(np.float32),
    }
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = Container(tmp_path / "x.gguf")
    want = {"whole": 7, "negative": -7, "small": 1e-5, "double": 0.1, "flag": True, "text": "été"}
    want |= {"names": ["a", "", "c"], "numbers": [1, 2, 3], "flags": [True, False]}
    assert {name: read.metadata[name] for name in want} == want
    for name, value in tensors.items():
        np.testing.assert_array_equal(read.read(name), value)
        assert read.read(name).dtype == value.dtype
        assert not read.read(name).flags.writeable


BLOCKS = [kind for kind in KINDS.values() if kind.plain is None]


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_blocks_are_made_numbers_in_their_order(kind: Any, tmp_path: Path, monkeypatch):
    """However many at a time, as the package does with the whole tensor."""
    gguf = pytest.importorskip("gguf")
    code = gguf.GGMLQuantizationType[kind.name]
    assert gguf.GGML_QUANT_SIZES[code] == (kind.block, kind.size)
    assert KINDS[int(code)] == kind
    rng = np.random.default_rng(1)
    rows, blocks = 6, 3
    stored = rng.integers(0, 60, (rows, blocks * kind.size), np.uint8)  # finite scales throughout
    line = tensor("x", [blocks * kind.block, rows], int(code), 0)
    read = Container(raw(tmp_path / "x", tensors=[line], data=stored.tobytes()))
    want = gguf.quants.dequantize(stored, code)
    for part in (4, 2**12):
        monkeypatch.setattr("models.gguf.container.PART", part)
        np.testing.assert_array_equal(read.read("x"), want)
    assert np.isfinite(want).all()
    assert want.shape == (rows, blocks * kind.block)


def test_blocks_mean_what_their_format_says(tmp_path: Path):
    """Two formats by hand: a Q8_0 block is scale and 32 whole numbers, a Q4_1 block scale, least
    value and 16 bytes, whose low halves are the first 16 numbers."""
    pytest.importorskip("gguf")
    rng = np.random.default_rng(2)
    whole = rng.integers(-128, 128, 32, np.int8)
    eight = np.float16(0.25).tobytes() + whole.tobytes()
    halves = rng.integers(0, 256, 16, np.uint8)
    four = np.float16(0.5).tobytes() + np.float16(-2).tobytes() + halves.tobytes()
    lines = [tensor("x", [32], 8, 0), tensor("y", [32], 3, 64)]
    data = eight + bytes(64 - len(eight)) + four
    read = Container(raw(tmp_path / "x", tensors=lines, data=data))
    np.testing.assert_array_equal(read.read("x"), [0.25 * float(q) for q in whole])
    nibbles = [int(b) % 16 for b in halves] + [int(b) // 16 for b in halves]
    np.testing.assert_array_equal(read.read("y"), [0.5 * q - 2 for q in nibbles])


U32, U64 = (lambda x: struct.pack("<I", x)), (lambda x: struct.pack("<Q", x))
Y = tensor("y", [4], 0, 32)
UNSOUND: list[tuple[dict[str, Any], str]] = [
    ({"magic": b"GGML"}, "no GGUF file"),
    ({"version": 1}, "version 1 is unknown"),
    ({"version": 3 << 24}, "big-endian"),
    ({"counts": (2**63, 1)}, "number of tensors is"),
    ({"counts": (1, 2**40)}, "number of entries is"),
    ({"counts": (2, 9000)}, "length of a name is"),
    ({"entries": [entry("a", 99, b"")]}, "type of a is 99"),
    ({"entries": [entry("a", 9, U32(9) + U64(1) + U32(4) + U64(1))]}, "type 9, which are not"),
    ({"entries": [entry("a", 9, U32(4) + U64(2**60))]}, "length of a is"),
    ({"entries": [entry("a", 9, U32(8) + U64(2**21))]}, "truncated|more than any"),
    ({"entries": [entry("a", 8, U64(2**50))]}, "length of a is"),
    ({"entries": [entry("a", 8, U64(2**20))]}, "truncated or damaged"),
    ({"entries": [entry("a", 8, text(b"\xff\xfe"))]}, "no UTF-8 text"),
    ({"entries": [entry("a", 7, b"\x02")]}, "neither true nor false"),
    ({"entries": [entry("", 4, U32(1))]}, "is no name"),
    ({"entries": [entry("a\nb", 4, U32(1))]}, "is no name"),
    ({"entries": [entry("x" * 300, 4, U32(1))]}, "length of a name is 300"),
    ({"entries": [entry("a", 4, U32(1))] * 2}, "'a' appears twice"),
    ({"entries": [entry("general.alignment", 4, U32(0))]}, "power of two"),
    ({"entries": [entry("general.alignment", 4, U32(48))]}, "power of two"),
    ({"entries": [entry("general.alignment", 8, text("32"))]}, "power of two"),
    ({"tensors": [tensor("x", [3, 2], 77, 0), Y]}, "type 77; supported are"),
    ({"tensors": [tensor("x", [3, 0], 0, 0), Y]}, "positive ones"),
    ({"tensors": [tensor("x", [], 0, 0), Y]}, "positive ones"),
    ({"tensors": [tensor("x", [1] * 5, 0, 0), Y]}, "number of sizes"),
    ({"tensors": [tensor("x", [2**41], 0, 0), Y]}, "a size of tensor 'x'"),
    ({"tensors": [tensor("x", [2**40] * 4, 0, 0), Y]}, "overlap or leave gaps"),
    ({"tensors": [tensor("x", [33], 8, 0), Y]}, "blocks of 32"),
    ({"tensors": [tensor("x", [3, 2], 0, 2**61), Y]}, "overlap or leave gaps"),
    ({"tensors": [tensor("x", [3, 2], 0, 2**63), Y]}, "offset of tensor 'x'"),
    ({"tensors": [tensor("x", [9], 0, 0), Y]}, "overlap or leave gaps"),
    ({"tensors": [tensor("x", [3, 2], 0, 8), Y]}, "overlap or leave gaps"),
    ({"tensors": [tensor("y", [3, 2], 0, 0), Y]}, "appears twice"),
    ({"tensors": [tensor("x", [3, 2], 0, 0), tensor("y", [40], 0, 32)]}, "truncated"),
    ({"data": bytes(100)}, "longer than it should be"),
]


@pytest.mark.parametrize(("change", "match"), UNSOUND, ids=[match for _, match in UNSOUND])
def test_unsound_files(change: dict[str, Any], match: str, tmp_path: Path):
    with pytest.raises(ValueError, match=match):
        Container(raw(tmp_path / "x", **change))


def test_what_is_no_file(tmp_path: Path):
    with pytest.raises(ValueError, match="is no file"):
        Container(tmp_path / "nothing.gguf")


@pytest.mark.parametrize("kept", [0, 3, 4, 20, 30, 60, -1])
def test_a_truncated_file(kept: int, tmp_path: Path):
    path = raw(tmp_path / "x", data=bytes(48))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="truncated"):
        Container(path)


@given(flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_no_file_is_read_by_halves(tmp_path_factory, flips):
    """Whatever the bytes, a file is refused with a ValueError or every tensor is readable."""
    path = raw(
        tmp_path_factory.mktemp("fuzz") / "x",
        entries=[
            entry("a", 8, text("words")),
            entry("b", 9, U32(8) + U64(2) + text("p") + text("q")),
            entry("c", 9, U32(6) + U64(3) + bytes(12)),
        ],
    )
    data = bytearray(path.read_bytes())
    for place, byte in flips:
        data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        read = Container(path)
    except ValueError:
        return
    assert sum(read.raw(name).nbytes for name in read.tensors) <= len(data)
