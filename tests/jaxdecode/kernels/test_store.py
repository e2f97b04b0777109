"""The kernel that stores and moves slots, interpreted, against NumPy loops, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.kernels.store import LANES, Places, move, store

A, B, KV, HD = 2, 3, 2, 8


def arrays(slots: int, dtype, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    shape = (A, B, KV, HD, slots)
    k, v = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2))
    return k, v


@pytest.mark.parametrize(
    ("tokens", "slots", "dtype"),
    [(1, 256, jnp.bfloat16), (5, 384, jnp.float32), (140, 512, jnp.bfloat16)],
)
def test_tokens_of_all_rows_are_stored(tokens: int, slots: int, dtype) -> None:
    """At the very start, over a border of two tiles, and at the end, where some are dropped."""
    held, rng = arrays(slots, dtype), np.random.default_rng(1)
    new = [jnp.asarray(rng.normal(size=(B, tokens, KV, HD)), dtype) for _ in range(2)]
    start = np.array([0, LANES - 2, slots - max(tokens - 2, 1)])
    slot = start[:, None] + np.arange(tokens)
    slot[1, -1] = slots  # one that is not valid
    run = jax.jit(lambda held, slot: store(held, 1, tuple(new), places(slot), interpret=True))

    def places(slot):
        return Places.of((slot,), slots, tokens)

    found = run(held, jnp.asarray(slot))
    for array, values, after in zip(held, new, found, strict=True):
        expected = np.array(array)
        for row, token in np.ndindex(B, tokens):
            if slot[row, token] < slots:
                expected[1, row, :, :, slot[row, token]] = values[row, token]
        np.testing.assert_array_equal(after, expected)
        assert not np.array_equal(after, array)


@pytest.mark.parametrize(("nodes", "dtype"), [(5, jnp.bfloat16), (61, jnp.float32)])
def test_accepted_nodes_of_all_layers_are_moved(nodes: int, dtype) -> None:
    """Within one tile, over a border, and at the end; of none, two and four of four."""
    slots, depth = 256, 4
    held, rng = arrays(slots, dtype), np.random.default_rng(2)
    length = np.array([3, LANES - 3, slots - nodes])
    path = np.stack([np.sort(rng.permutation(nodes)[:depth]) for _ in range(B)])
    count = np.array([0, 2, depth])
    source = length[:, None] + path
    target = np.where(np.arange(depth) < count[:, None], length[:, None] + np.arange(depth), slots)
    run = jax.jit(lambda *p: move(held, Places.of(p, slots, nodes), interpret=True))
    for array, after in zip(held, run(jnp.asarray(target), jnp.asarray(source)), strict=True):
        expected = np.array(array)
        for row in range(B):
            for step in range(count[row]):
                expected[:, row, :, :, target[row, step]] = np.array(array)[
                    :, row, :, :, source[row, step]
                ]
        np.testing.assert_array_equal(after, expected)
