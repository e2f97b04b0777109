"""The kernel that streams a cache, interpreted, against a softmax over what is seen."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.kernels import attention
from jaxdecode.kernels.attention import Seen, attend

B, KV, EACH, HD, SCALE = 3, 2, 3, 16, 0.3


def naive(q, k, v, mask, cap: float) -> np.ndarray:
    """One query after the other, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros(q.shape)
    for row, token, head in np.ndindex(q.shape[:3]):
        seen = np.flatnonzero(mask[row, token])
        if not len(seen):
            continue
        scores = q[row, token, head] @ k[row, head // EACH][:, seen] * SCALE
        scores = cap * np.tanh(scores / cap) if cap else scores
        weight = np.exp(scores - scores.max())
        out[row, token, head] = v[row, head // EACH][:, seen] @ weight / weight.sum()
    return out


@pytest.mark.parametrize(
    ("tokens", "slots", "block", "cap", "dtype"),
    [
        (1, 384, 8, 0.0, jnp.float32),
        (1, 640, 2, 3.0, jnp.float32),
        (5, 640, 2, 0.0, jnp.float32),
        (13, 640, 3, 0.0, jnp.bfloat16),
    ],
)
def test_streaming_is_a_softmax_over_what_is_seen(tokens, slots, block, cap, dtype) -> None:
    """Rows that begin late, that end early, with a query that sees nothing; blocks that do and
    that do not divide the slots, whose last tile is not full."""
    rng, capacity = np.random.default_rng(0), slots - 7
    q = jnp.asarray(rng.normal(size=(B, tokens, KV * EACH, HD)), dtype)
    k, v = (jnp.asarray(rng.normal(size=(2, B, KV, HD, slots)), dtype) for _ in range(2))
    mask = rng.random((B, tokens, capacity)) < 0.3
    mask[0, :, :260], mask[1, :, 200:], mask[2, 0] = False, False, False
    size = q.dtype.itemsize
    with mock.patch.object(attention, "BLOCK", block * KV * HD * 128 * size):
        seen = Seen.of(jnp.asarray(mask), EACH, KV, HD, size)
        assert seen.block == min(block * 128, slots) and seen.mask.shape[2] == slots
        # What lies in blocks that a row does not see is never read.
        outside = np.repeat(np.arange(slots)[None] // seen.block, B, 0)
        outside = (outside < seen.first[:, None]) | (outside > seen.last[:, None])
        assert outside.any() == (slots > seen.block)
        v = jnp.where(outside[:, None, None], jnp.nan, v)
        out = jax.jit(lambda q, k, v: attend(q, k, v, 1, seen, SCALE, cap, interpret=True))(q, k, v)
    expected = naive(q, k[1], np.nan_to_num(v[1].astype(jnp.float32)), mask, cap)
    error = 1e-2 if dtype == jnp.bfloat16 else 1e-6
    np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=error)
    shifted = naive(q, k[1], np.nan_to_num(v[1].astype(jnp.float32)), np.roll(mask, 1, 2), cap)
    assert np.abs(shifted - expected).max() > 10 * error, "another mask would be noticed"
