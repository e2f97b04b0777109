"""Entries of big arrays against NumPy, in a loop of slices and at once."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxdecode.ngram import slots

RANDOM = np.random.default_rng(5)
ARRAY = RANDOM.integers(0, 99, (3, 7, 2, 2)).astype(np.int32)


@pytest.fixture(params=[True, False], ids=["slices", "at once"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "alone", lambda *arrays: request.param)


@pytest.mark.usefixtures("form")
def test_what_lies_outside_reads_the_nearest() -> None:
    index = np.array([[0, 6, -4, 9], [3, 3, 1, 100], [7, 6, 5, 4]], np.int32)
    found = jax.jit(lambda array, index: slots.fetch_rows(array, index))(ARRAY, index)
    wanted = ARRAY[np.arange(3)[:, None], np.clip(index, 0, 6)]
    np.testing.assert_array_equal(found, wanted)
    found = jax.jit(lambda array, index: slots.fetch(array, index))(ARRAY[1], index)
    np.testing.assert_array_equal(found, ARRAY[1][np.clip(index, 0, 6)])


@pytest.mark.usefixtures("form")
def test_what_is_past_the_end_is_dropped() -> None:
    """The last row's drops would land in no row, the others' in the next."""
    index = np.array([[2, 7, 0], [8, 7, 100], [6, 7, 5]], np.int32)
    values = RANDOM.integers(100, 199, (*index.shape, 2, 2)).astype(np.int32)
    found = jax.jit(lambda *args: slots.store_rows(*args))(ARRAY, index, values)
    wanted = ARRAY.copy()
    for row, place in np.argwhere(index < 7):
        wanted[row, index[row, place]] = values[row, place]
    np.testing.assert_array_equal(found, wanted)
