"""Moves of cache slots against NumPy loops, compiled, exactly.

Some compilers have got in-place moves wrong when a reshape followed, so every compiled move
here ends in one.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, AxisType

from jaxdecode.cache import Cache, allocate, fork, gather, keep, place, read, resize, spread, write
from jaxdecode.layout import Layout
from jaxdecode.target import Target, aimed

A, B, KV, HD, S, P = 2, 3, 2, 3, 9, 4
CASES = settings(max_examples=200)


def random_cache(seed: int) -> Cache:
    rng = np.random.default_rng(seed)
    return Cache(
        k=jnp.asarray(rng.normal(size=(A, B, KV, HD, S)), jnp.float32),
        v=jnp.asarray(rng.normal(size=(A, B, KV, S, HD)), jnp.float32),
        position=jnp.asarray(rng.integers(0, 50, (B, S))),
        length=jnp.asarray(rng.integers(0, S - P, B)),
    )


def numpy(cache: Cache) -> dict[str, np.ndarray]:
    names = ("k", "v", "position", "length")
    return {name: np.array(getattr(cache, name)) for name in names}


def flat(cache: Cache) -> Cache:
    """The same cache seen through a reshape that the compiler may fuse with what precedes."""
    return jax.tree.map(lambda array: array[None].reshape(-1), cache)


def check(compiled: Cache, expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(getattr(compiled, name), array.reshape(-1), name)


@jax.jit
def compiled_keep(cache, path, count):
    return flat(keep(cache, path, count))


@jax.jit
def compiled_fork(cache, parent):
    return flat(fork(cache, parent))


@jax.jit
def compiled_write(cache, layer, k, v, slot, position):
    return flat(place(write(cache, layer, k, v, slot), position, slot))


def compacted(cache: Cache, path: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """One slot after the other, from a copy."""
    before, after = numpy(cache), numpy(cache)
    for row in range(B):
        for step in range(count[row]):
            source = before["length"][row] + path[row, step]
            target = before["length"][row] + step
            after["k"][:, row, :, :, target] = before["k"][:, row, :, :, source]
            after["v"][:, row, :, target] = before["v"][:, row, :, source]
            after["position"][row, target] = before["position"][row, source]
        after["length"][row] += count[row]
    return after


@CASES
@given(seed=st.integers(0, 10**6), increasing=st.booleans())
def test_compaction(seed, increasing) -> None:
    """Paths in order of slots, as trees have them, and in any order without repetition."""
    rng = np.random.default_rng(seed)
    cache = random_cache(seed)
    path = np.stack([rng.permutation(P + 1)[:P] for _ in range(B)])
    if increasing:
        path = np.sort(path, axis=1)
    count = rng.integers(0, P + 1, B)
    ignored = rng.integers(-5, 99, (B, P))
    given_path = np.where(np.arange(P) < count[:, None], path, ignored)
    moved = compiled_keep(cache, jnp.asarray(given_path), jnp.asarray(count))
    check(moved, compacted(cache, path, count))


def test_a_move_that_is_off_by_one_is_noticed() -> None:
    cache = random_cache(0)
    path, count = np.tile(np.arange(P), (B, 1)), np.full(B, P)
    with pytest.raises(AssertionError):
        check(compiled_keep(cache, jnp.asarray(path + 1), count), compacted(cache, path, count))


@CASES
@given(seed=st.integers(0, 10**6))
def test_shift_by_one(seed) -> None:
    """Keeping nodes 1..P-1 moves neighbours over each other: the worst case for in-place code."""
    cache = random_cache(seed)
    path = jnp.broadcast_to(jnp.arange(1, P + 1), (B, P))
    count = np.random.default_rng(seed).integers(0, P, B)
    check(compiled_keep(cache, path, jnp.asarray(count)), compacted(cache, np.asarray(path), count))


@CASES
@given(seed=st.integers(0, 10**6))
def test_beam_gather(seed) -> None:
    rng = np.random.default_rng(seed)
    cache, parent = random_cache(seed), rng.integers(0, B, B)
    before = numpy(cache)
    expected = {
        "k": before["k"][:, parent],
        "v": before["v"][:, parent],
        "position": before["position"][parent],
        "length": before["length"][parent],
    }
    check(compiled_fork(cache, jnp.asarray(parent)[None]), expected)


@CASES
@given(seed=st.integers(0, 10**6))
def test_writes_land_in_their_slots_or_nowhere(seed) -> None:
    rng = np.random.default_rng(seed)
    cache = random_cache(seed)
    slot = np.stack([rng.permutation(S + 3)[:P] for _ in range(B)])
    k, v = rng.normal(size=(2, B, P, KV, HD)).astype(np.float32)
    position, layer = rng.integers(0, 50, (B, P)), int(rng.integers(A))

    expected = numpy(cache)
    for row, t in np.ndindex(B, P):
        at = slot[row, t]
        if at < S:
            expected["k"][layer, row, :, :, at] = k[row, t]
            expected["v"][layer, row, :, at] = v[row, t]
            expected["position"][row, at] = position[row, t]
    check(compiled_write(cache, layer, k, v, slot, position), expected)


def test_writes_are_the_same_on_one_device_and_on_many() -> None:
    cache = random_cache(0)
    k = jnp.ones((cache.batch, 2, cache.k.shape[2], cache.k.shape[3]))
    slot = jnp.tile(jnp.array([1, cache.capacity]), (cache.batch, 1))
    alone = write(cache, 1, k, 2 * k, slot)
    mesh = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with aimed(Target("cpu", mesh)):
        many = write(cache, 1, k, 2 * k, slot)
    np.testing.assert_array_equal(alone.k, many.k)
    np.testing.assert_array_equal(alone.v, many.v)
    assert not np.array_equal(alone.k, cache.k)


def test_the_first_tokens_of_all_rows_are_stored_as_they_lie() -> None:
    cache, rng = random_cache(0), np.random.default_rng(0)
    k, v = rng.normal(size=(2, B, P, KV, HD)).astype(np.float32)
    slot = jnp.broadcast_to(jnp.arange(P), (B, P))
    expected, fresh = write(cache, 1, k, v, slot), write(cache, 1, k, v, slot, fresh=True)
    np.testing.assert_array_equal(fresh.k, expected.k)
    np.testing.assert_array_equal(fresh.v, expected.v)


@pytest.mark.parametrize("capacity", [S - 4, S, S + 4])
def test_resize_keeps_the_first_slots(capacity) -> None:
    cache = random_cache(0)
    after = jax.jit(resize, static_argnums=1)(cache, capacity)
    kept = min(S, capacity)
    assert after.capacity == capacity and after.batch == B
    np.testing.assert_array_equal(after.k[..., :kept], cache.k[..., :kept])
    np.testing.assert_array_equal(after.v[..., :kept, :], cache.v[..., :kept, :])
    np.testing.assert_array_equal(after.position[:, :kept], cache.position[:, :kept])
    np.testing.assert_array_equal(after.length, cache.length)
    assert after.nbytes == 2 * 4 * A * B * KV * HD * capacity


def test_gather_takes_caches_and_arrays_together() -> None:
    cache = random_cache(1)
    tree = {"cache": cache, "rows": (jnp.arange(B), jnp.ones((B, 2)))}
    after = gather(tree, jnp.array([[2, 0, 2, 2]]))
    np.testing.assert_array_equal(after["rows"][0], [2, 0, 2, 2])
    assert after["rows"][1].shape == (4, 2)
    np.testing.assert_array_equal(after["cache"].v[:, 1], cache.v[:, 0])
    np.testing.assert_array_equal(after["cache"].length, cache.length[jnp.array([2, 0, 2, 2])])


def test_rows_are_taken_within_their_group_and_spread_side_by_side() -> None:
    cache, keys = random_cache(2), jax.random.split(jax.random.key(0), 2 * B)
    wide = spread({"cache": cache, "row": jnp.arange(B)}, 2)
    np.testing.assert_array_equal(wide["row"], [0, 0, 1, 1, 2, 2])
    wide |= {"row": jnp.arange(2 * B), "key": keys}
    few = gather(wide, jnp.array([[1], [0], [1]]))
    np.testing.assert_array_equal(few["row"], [1, 2, 5])
    assert (few["key"] == keys[jnp.array([1, 2, 5])]).all()
    for name, array in numpy(cache).items():
        np.testing.assert_array_equal(getattr(few["cache"], name), array, name)


MOVES = {
    "keep": lambda cache: keep(
        cache, jnp.asarray([[0, 2], [1, 3], [0, 1]]), jnp.asarray([2, 1, 0]), 4
    ),
    "fork": lambda cache: fork(cache, jnp.asarray([[0, 0]] * B)),
    "spread": lambda cache: spread(cache, 2),
    "wider": lambda cache: resize(cache, S + 3),
    "narrower": lambda cache: resize(cache, S - 2),
    "write": lambda cache: write(
        cache, 1, jnp.ones((B, 2, KV, HD)), jnp.ones((B, 2, KV, HD)), jnp.asarray([[3, S]] * B)
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_layers_in_arrays_of_their_own_move_as_one_array_does(move) -> None:
    whole = random_cache(5)
    apart = replace(whole, k=tuple(jnp.split(whole.k, A)), v=tuple(jnp.split(whole.v, A)))
    expected, moved = MOVES[move](whole), MOVES[move](apart)
    assert apart.nbytes == whole.nbytes and moved.nbytes == expected.nbytes
    np.testing.assert_array_equal(jnp.concatenate(moved.k), expected.k)
    np.testing.assert_array_equal(jnp.concatenate(moved.v), expected.v)
    np.testing.assert_array_equal(moved.position, expected.position)
    np.testing.assert_array_equal(moved.length, expected.length)
    for one, other in zip(read(moved, 1), read(expected, 1), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kernels", ["none", "interpreted"])
@pytest.mark.parametrize("move", MOVES)
def test_slots_on_lanes_move_as_others_do(move, kernels) -> None:
    """The layout of TPUs, with its kernels and without."""
    there = random_cache(5)
    expected = MOVES[move](there)
    lanes = Layout(lanes=True)
    v = jnp.swapaxes(there.v, 3, 4)
    k, v = lanes.resize((there.k, v), S)
    with aimed(Target("tpu", kernels=kernels)):
        moved = MOVES[move](replace(there, k=k, v=v, layout=lanes))
    assert moved.k.shape[-1] == 128 and moved.capacity == expected.capacity
    np.testing.assert_array_equal(moved.position, expected.position)
    np.testing.assert_array_equal(moved.length, expected.length)
    for layer in range(A):
        for one, other in zip(read(moved, layer), read(expected, layer), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_empty_cache_and_its_refusal() -> None:
    cache = allocate(A, B, KV, HD, S, jnp.bfloat16)
    assert cache.k.shape == (A, B, KV, HD, S) and cache.v.shape == (A, B, KV, S, HD)
    assert cache.v.dtype == jnp.bfloat16 and cache.nbytes == 2 * 2 * A * B * KV * HD * S
    with pytest.raises(ValueError, match="capacity=0"):
        allocate(A, B, KV, HD, 0)
