"""Whether a head that a config calls tied is what the checkpoint stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from models.safetensors import Tensors

BLOCK = 2**22  # elements compared at a time


def other_head(readers: Mapping[str, Tensors], table: str, heads: Iterable[str]) -> bool:
    """Whether a tensor of the names `heads` is stored that is no copy of the embedding `table`."""
    if table not in readers:
        return False
    embedding = readers[table].read(table)
    stored = [name for name in sorted(heads) if name in readers and name != table]
    return any(not same_values(readers[name].read(name), embedding) for name in stored)


def same_values(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two stored tensors are copies of each other, in whatever float type."""
    if one.shape != other.shape:
        return False
    flat = [array.reshape(-1) for array in (one, other)]
    for first in range(0, one.size, BLOCK):
        a, b = (np.asarray(array[first : first + BLOCK]) for array in flat)
        if one.dtype == other.dtype:  # NaN is a copy of NaN
            a, b = (np.ascontiguousarray(array).view(np.uint8) for array in (a, b))
        else:
            a, b = a.astype(np.float32), b.astype(np.float32)
        if not np.array_equal(a, b):
            return False
    return True
