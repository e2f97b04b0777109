"""Texts that share a row are learnt as if each had its own."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecode.train.losses import next_token
from jaxdecode.train.packing import bins, pack, packed_next_token
from tests.jaxdecode.train import small

LENGTHS = [12, 5, 3, 1, 7, 4, 2, 6]


def packed(width: int) -> dict[str, np.ndarray]:
    texts, masks = small.texts(LENGTHS), small.masks(LENGTHS)
    return pack(texts, masks, bins(LENGTHS, width), width)


def test_the_loss_and_the_gradient_are_those_of_the_texts_apart() -> None:
    """40 tokens in 4 rows and in 2, in place of 8 rows."""
    model, want = small.model(), small.padded(LENGTHS)
    grad = jax.jit(jax.value_and_grad(lambda m, f, b: f(m, **b), has_aux=True), static_argnums=1)
    (loss, metrics), gradient = grad(model, next_token, want)
    for width, rows in ((12, 4), (24, 2)):
        batch = packed(width)
        assert batch["tokens"].shape == (rows, width)
        (found, others), other = grad(model, packed_next_token, batch)
        assert float(found) == pytest.approx(float(loss), abs=1e-5)
        assert {k: float(v) for k, v in others.items()} == pytest.approx(
            {k: float(v) for k, v in metrics.items()}
        )
        for one, two in zip(jax.tree.leaves(gradient), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(two, one, atol=2e-6, rtol=1e-4)
    # Texts that see one another, as plain rows would have it, are another loss.
    batch = packed(12)
    batch["segment"] = (batch["segment"] > 0).astype(np.int32)
    assert abs(float(grad(model, packed_next_token, batch)[0][0]) - float(loss)) > 1e-3


def test_rows_are_filled_as_by_hand() -> None:
    """12, 7 + 5, 6 + 4 + 2, 3 + 1: the longest first, each where there is room."""
    assert bins(LENGTHS, 12) == [[0], [4, 1], [7, 5, 6], [2, 3]]
    batch = pack([[5, 6], [7], [8, 9, 4]], [[True, True], [True], [False, True, True]], [[2, 1]], 6)
    np.testing.assert_array_equal(batch["tokens"], [[8, 9, 4, 7, 0, 0]])
    np.testing.assert_array_equal(batch["segment"], [[1, 1, 1, 2, 0, 0]])
    np.testing.assert_array_equal(batch["loss_mask"], np.array([[0, 1, 1, 1, 0, 0]], bool))


@given(st.lists(st.integers(1, 16), min_size=1, max_size=40))
def test_every_text_has_one_place_and_no_row_is_too_full(lengths: list[int]) -> None:
    rows = bins(lengths, 16)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    filled = [sum(lengths[i] for i in row) for row in rows]
    assert max(filled) <= 16
    assert sum(fill <= 8 for fill in filled) <= 1, "two rows half empty are one"


@pytest.mark.parametrize("length", [0, 13])
def test_texts_that_fit_no_row_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"texts\[1\] has {length} tokens, a row takes 1\.\.12"):
        bins([3, length], 12)
