"""What a token sees: prefix, block, tree, arena, padding; the cache against no cache."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.cache import Cache, truncate
from jaxdecode.lm import View, extend
from models.transformer import Transformer
from tests.models.samples import CONFIGS, VOCABULARY, draw, perturbed

NAMES = tuple(CONFIGS)


@jax.jit
def forward(model: Transformer, tokens, valid=None, position=None, block=None) -> jax.Array:
    return model.forward(tokens, valid, position=position, block=block)[0]


@jax.jit
def more(model: Transformer, tokens, cache: Cache, **view):
    return extend(model, tokens, cache, **view)


def filled(model: Transformer, tokens: jax.Array, capacity: int) -> Cache:
    """A cache that holds `tokens` [B, T] as prefix."""
    batch, count = tokens.shape
    cache = extend(model, tokens, model.init_cache(batch, capacity), fresh=True).cache
    return truncate(cache, jnp.full((batch,), count))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunks", [(24,), (1,) * 24, (9, 5, 1, 1, 8)], ids=str)
def test_the_cache_agrees_with_the_whole_sequence(name: str, chunks: tuple[int, ...]):
    model, tokens = perturbed(CONFIGS[name]), draw(2, 24)
    cache, pieces, start = model.init_cache(2, 26), [], 0
    for size in chunks:
        output = more(model, tokens[:, start : start + size], cache)
        start += size
        cache = truncate(output.cache, jnp.full((2,), start))
        pieces.append(output.logits)
    whole = forward(model, tokens)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_ragged_rows_are_as_if_alone(name: str):
    model, tokens, lengths = perturbed(CONFIGS[name]), draw(3, 12), jnp.asarray([12, 5, 1])
    valid = jnp.arange(12) < lengths[:, None]
    alone = [forward(model, tokens[row : row + 1, :n]) for row, n in enumerate((12, 5, 1))]
    together = forward(model, tokens, valid)
    output = more(model, tokens, model.init_cache(3, 14), valid=valid)
    following = more(model, draw(3, 1, 9), truncate(output.cache, lengths)).logits
    for row, n in enumerate((12, 5, 1)):
        np.testing.assert_allclose(together[row, :n], alone[row][0], atol=2e-5)
        np.testing.assert_allclose(output.logits[row, :n], alone[row][0], atol=2e-5)
        extended = jnp.concatenate([tokens[row, :n], draw(3, 1, 9)[row]])[None]
        last = forward(model, extended)[0, -1]
        np.testing.assert_allclose(following[row, 0], last, atol=2e-5)


def test_neighbours_change_nothing_at_all():
    model, tokens = perturbed(CONFIGS["windowed"]), draw(3, 8)
    other = jnp.concatenate([tokens[:1], draw(2, 8, 5)])
    a, b = (more(model, rows, model.init_cache(3, 8)).logits[0] for rows in (tokens, other))
    np.testing.assert_array_equal(a, b)


def random_tree(seed: int, nodes: int) -> np.ndarray:
    """Parents of a random tree, -1 for the root; parents come first."""
    draws = np.random.default_rng(seed)
    return np.array([-1, *(draws.integers(0, i) for i in range(1, nodes))])


def paths_of(parent: np.ndarray) -> list[list[int]]:
    """For every node, the nodes from the root to it."""
    paths: list[list[int]] = []
    for node, above in enumerate(parent):
        paths.append([node] if above < 0 else [*paths[above], node])
    return paths


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_tree_is_every_path_run_alone(name: str, fresh: bool):
    model, nodes, batch = perturbed(CONFIGS[name]), 11, 2
    prefix = 0 if fresh else 6
    before, tokens = draw(batch, 6), draw(batch, nodes, 1)
    trees = [paths_of(random_tree(seed, nodes)) for seed in range(batch)]
    block = np.zeros((batch, nodes, nodes), bool)
    for row, paths in enumerate(trees):
        for node, path in enumerate(paths):
            block[row, node, path] = True
    depth = jnp.asarray([[len(path) - 1 for path in paths] for paths in trees])
    cache = model.init_cache(batch, 20) if fresh else filled(model, before, 20)
    output = extend(model, tokens, cache, depth=depth, block=jnp.asarray(block), fresh=fresh)
    # Every path as a row of one batch, padded to the deepest.
    rows = [
        np.concatenate([np.asarray(before[row, :prefix]), np.asarray(tokens[row])[path]])
        for row, paths in enumerate(trees)
        for path in paths
    ]
    width = max(map(len, rows))
    padded = jnp.asarray([np.pad(row, (0, width - len(row))) for row in rows])
    alone = forward(model, padded, jnp.arange(width) < jnp.asarray([[len(r)] for r in rows]))
    last = np.stack([np.asarray(alone[i, len(row) - 1]) for i, row in enumerate(rows)])
    np.testing.assert_allclose(output.logits.reshape(-1, VOCABULARY), last, atol=2e-5)


@pytest.mark.parametrize("name", ["plain", "learned"])
def test_a_block_that_sees_itself_both_ways(name: str):
    model, tokens = perturbed(CONFIGS[name]), draw(2, 13)
    output = more(
        model,
        tokens[:, 8:],
        filled(model, tokens[:, :8], 16),
        block=jnp.ones((2, 5, 5), bool),
    )
    pattern = np.tril(np.ones((13, 13), bool))
    pattern[8:, 8:] = True
    whole = forward(model, tokens, block=jnp.broadcast_to(jnp.asarray(pattern), (2, 13, 13)))
    np.testing.assert_allclose(output.logits, whole[:, 8:], atol=2e-5)
    causal = forward(model, tokens)[:, 8:]
    assert float(jnp.abs(output.logits - causal)[:, :-1].max()) > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_an_arena_shows_a_node_its_ancestors(name: str):
    """Nodes written one by one wherever there is room; `beyond` names the path to the root."""
    model, nodes, length, capacity = perturbed(CONFIGS[name]), 7, 4, 16
    before, tokens = draw(1, length), draw(1, nodes, 1)
    paths = paths_of(random_tree(3, nodes))
    cache = filled(model, before, capacity)
    slots = np.random.default_rng(0).permutation(np.arange(length, capacity))[:nodes]
    run = jax.jit(lambda model, tokens, cache, view: model(tokens, cache, view))
    for node, path in enumerate(paths):
        beyond = np.zeros((1, 1, capacity), bool)
        beyond[0, 0, slots[path[:-1]]] = True
        view = View(
            position=jnp.asarray([[length + len(path) - 1]]),
            start=jnp.asarray([slots[node]]),
            prefix=jnp.asarray([length]),
            valid=jnp.ones((1, 1), bool),
            beyond=jnp.asarray(beyond),
        )
        output = run(model, tokens[:, node : node + 1], cache, view)
        cache = output.cache
        path_tokens = jnp.concatenate([before[0], tokens[0, jnp.asarray(path)]])[None]
        alone = forward(model, path_tokens)[0, -1]
        np.testing.assert_allclose(output.logits[0, 0], alone, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 4])
def test_what_lies_beyond_is_never_seen(name: str, count: int):
    """Keys may be anything; values must be finite, for a weight of zero multiplies them."""
    model, tokens = perturbed(CONFIGS[name]), draw(2, count, 1)
    clean = filled(model, draw(2, 6), 16)
    poisoned = dataclasses.replace(
        clean,
        k=clean.k.at[..., 6:].set(jnp.nan),
        v=clean.v.at[..., 6:, :].set(1e30),
        position=clean.position.at[:, 6:].set(2),
    )
    a, b = more(model, tokens, clean), more(model, tokens, poisoned)
    np.testing.assert_array_equal(a.logits, b.logits)


def test_invalid_tokens_are_not_written_and_not_seen():
    model, tokens = perturbed(CONFIGS["plain"]), draw(1, 4, 1)
    cache = filled(model, draw(1, 6), 12)
    valid = jnp.asarray([[True, False, True, True]])
    block = jnp.tril(jnp.ones((1, 4, 4), bool))
    output = more(model, tokens, cache, valid=valid, block=block)
    np.testing.assert_array_equal(output.cache.k[..., 7], cache.k[..., 7])
    assert float(jnp.abs(output.cache.k[..., 8] - cache.k[..., 8]).max()) > 0
    other = more(model, tokens.at[0, 1].set(0), cache, valid=valid, block=block)
    np.testing.assert_array_equal(output.logits[:, 2:], other.logits[:, 2:])


def test_a_write_past_the_capacity_is_dropped():
    model = perturbed(CONFIGS["plain"])
    cache = filled(model, draw(1, 6), 6)
    output = more(model, draw(1, 1, 1), cache)
    np.testing.assert_array_equal(output.cache.k, cache.k)
    np.testing.assert_array_equal(output.cache.v, cache.v)


def test_a_call_without_cache_needs_a_fresh_view():
    model = perturbed(CONFIGS["plain"])
    ones = jnp.ones((1, 1), jnp.int32)
    view = View(position=ones, start=ones[0], prefix=ones[0], valid=ones > 0)
    with pytest.raises(ValueError, match="needs a fresh view"):
        model.run_layers(model.embed(ones), None, view)
