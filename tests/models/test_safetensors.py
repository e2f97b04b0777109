"""The file format: what is written is read back, and nothing unsound is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.safetensors import DTYPES, Reader, write

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def raw(path: Path, header: Any, data: bytes = bytes(32), length: int | None = None) -> Path:
    """A file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    count = len(text) if length is None else length
    path.write_bytes(count.to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("code", DTYPES)
def test_round_trip(code: str, tmp_path: Path):
    dtype = DTYPES[code]
    tensors = {
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "transposed": np.arange(6).reshape(2, 3).astype(dtype).T,
        "scalar": np.asarray(1).astype(dtype),
        "none": np.zeros((0, 5), dtype),
    }
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    write(tmp_path / "x.safetensors", shapes, tensors.__getitem__)
    reader = Reader(tmp_path / "x.safetensors")
    assert list(reader.entries) == list(tensors)
    for name, tensor in tensors.items():
        read = reader.read(name)
        assert read.dtype == dtype
        assert not read.flags.writeable
        np.testing.assert_array_equal(read, tensor)


def test_a_good_header_is_read(tmp_path: Path):
    data = np.arange(6, dtype="<f4").tobytes() + np.ones(4, jnp.bfloat16).tobytes()
    header = {"__metadata__": {"format": "pt"}} | GOOD
    reader = Reader(raw(tmp_path / "x", header, data))
    np.testing.assert_array_equal(reader.read("a"), np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(reader.read("b"), np.ones(4, jnp.bfloat16))


def entry(**changes: Any) -> dict[str, Any]:
    return GOOD | {"b": GOOD["b"] | changes}


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b'{"a\xff": 1}', "no valid JSON"),
        (b"[]", "a JSON object was expected"),
        (json.dumps(GOOD)[:-1].encode() + b', "a": {}}', "'a' appears twice"),
        ({"a": 3}, "'a' is described by int"),
        (entry(dtype="F8_E4M3"), "dtype 'F8_E4M3'; supported are"),
        (entry(dtype=["F32"]), "dtype"),
        (entry(dtype=None), "dtype None"),
        (entry(shape=[-4]), r"shape=\[-4\]"),
        (entry(shape=[4.0]), r"shape=\[4.0\]"),
        (entry(shape=[True]), r"shape=\[True\]"),
        (entry(shape="4"), "shape='4'"),
        (entry(shape=[1] * 80), "80 entries"),
        (entry(shape=[2**61, 2**61]), "spans 8 bytes"),
        (entry(shape=[5]), r"BF16\[5\] needs 10"),
        (entry(data_offsets=[24]), "1 data_offsets"),
        (entry(data_offsets=[32, 24]), "spans -8 bytes"),
        (entry(data_offsets=[16, 24]), "overlap or leave gaps"),
        (entry(data_offsets=[26, 34]), "overlap or leave gaps"),
        (entry(data_offsets=[2**61, 2**61 + 8]), "overlap or leave gaps"),
        ({"a": GOOD["a"]}, "longer than it should be"),
    ],
)
def test_unsound_headers(header: Any, match: str, tmp_path: Path):
    with pytest.raises(ValueError, match=match):
        Reader(raw(tmp_path / "x", header))


@pytest.mark.parametrize("length", [10**6, 10**12, 2**64 - 1])
def test_a_header_longer_than_the_file(length: int, tmp_path: Path):
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        Reader(raw(tmp_path / "x", GOOD, length=length))


@pytest.mark.parametrize("kept", [0, 5, 8, 40, -1])
def test_a_truncated_file(kept: int, tmp_path: Path):
    path = raw(tmp_path / "x", GOOD)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="truncated"):
        Reader(path)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    field=st.sampled_from(["dtype", "shape", "data_offsets", None]),
    junk=JUNK,
    flips=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=3),
)
def test_no_file_is_read_by_halves(tmp_path_factory, field, junk, flips):
    """Whatever the bytes, a file is refused with a ValueError or every tensor is readable."""
    path = tmp_path_factory.mktemp("fuzz") / "x"
    raw(path, GOOD | {"b": junk} if field is None else entry(**{field: junk}))
    data = bytearray(path.read_bytes())
    for place, byte in flips:
        data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        reader = Reader(path)
    except ValueError:
        return
    total = sum(reader.read(name).nbytes for name in reader.entries)
    assert 8 + int.from_bytes(data[:8], "little") + total == len(data)


def test_a_producer_that_breaks_its_word(tmp_path: Path):
    shapes = {"a": ((2,), np.dtype("<f4"))}
    with pytest.raises(ValueError, match=r"float32\(3,\), announced as float32\(2,\)"):
        write(tmp_path / "x", shapes, lambda name: np.zeros(3, np.float32))
