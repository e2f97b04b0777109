"""One primitive serves every way to run a model, proved on the enumerable one.

Whatever lies past the prefix is overwritten with NaN between calls, so that reading a garbage
slot cannot go unnoticed.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecode.cache import fork, gather, keep, resize, truncate
from jaxdecode.lm import extend, prefill
from jaxdecode.prompt import Prompt
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, visible_logits

MODEL = EnumerableLM.random(1, vocab=5, width=6, max_positions=16, sharpness=1.5)
SEQUENCES = [[1, 2, 3, 4, 0, 2], [4, 3, 0, 1, 1, 2]]
B, T, S = 2, 4, 12
RUN = jax.jit(extend)
KEEP = jax.jit(keep)


def poison(cache):
    """The cache with NaN in every slot past the prefix."""
    garbage = jnp.arange(cache.capacity) >= cache.length[:, None]
    return dataclasses.replace(
        cache,
        k=jnp.where(garbage[None, :, None, None, :], jnp.nan, cache.k),
        v=jnp.where(garbage[None, :, None, :, None], jnp.nan, cache.v),
    )


def begin(lengths) -> tuple:
    """A cache of the first tokens of SEQUENCES, poisoned behind them."""
    prompt = Prompt.of([s[: n + 1] for s, n in zip(SEQUENCES, lengths, strict=True)], width=6)
    cache, root, _ = prefill(MODEL, prompt, S)
    assert cache.length.tolist() == list(lengths)
    assert root.tolist() == [s[n] for s, n in zip(SEQUENCES, lengths, strict=True)]
    return poison(cache), root


def check(logits, tokens) -> None:
    """f32[V] logits are those after a sequence of tokens."""
    np.testing.assert_allclose(logits, next_logits(MODEL, tokens), 1e-4, 1e-4)


@pytest.mark.parametrize("lengths", [(0, 0), (3, 1), (0, 5)])
def test_prefill_then_steps(lengths) -> None:
    cache, root = begin(lengths)
    texts = [s[:n] for s, n in zip(SEQUENCES, lengths, strict=True)]
    for token in (root, jnp.array([2, 0]), jnp.array([4, 4])):
        output = RUN(MODEL, token[:, None], cache)
        texts = [[*text, int(t)] for text, t in zip(texts, token, strict=True)]
        for row in range(B):
            check(output.logits[row, 0], texts[row])
        np.testing.assert_array_equal(output.cache.length, cache.length)
        cache = poison(truncate(output.cache, cache.length + 1))


def test_prefill_in_ragged_chunks() -> None:
    """Chunks of four, of which each row uses some, give the logits of the whole."""
    cache = poison(MODEL.init_cache(B, S))
    done = np.zeros(B, int)
    for counts in ([2, 4], [0, 2], [4, 0]):
        chunk = np.zeros((B, T), int)
        for row, count in enumerate(counts):
            chunk[row, :count] = SEQUENCES[row][done[row] : done[row] + count]
        valid = jnp.arange(T) < jnp.asarray(counts)[:, None]
        output = RUN(MODEL, jnp.asarray(chunk), cache, valid=valid)
        for row, count in enumerate(counts):
            for t in range(count):
                check(output.logits[row, t], SEQUENCES[row][: done[row] + t + 1])
        done += counts
        cache = poison(truncate(output.cache, jnp.asarray(done)))
    assert done.tolist() == [6, 6]


def test_an_invalid_token_is_not_written() -> None:
    cache, _ = begin((3, 1))
    valid = jnp.array([[True, False, True, False], [False] * 4])
    after = RUN(MODEL, jnp.zeros((B, T), int), cache, valid=valid).cache
    written = np.isfinite(np.asarray(after.v[0, :, 0, :, 0]))
    assert np.flatnonzero(written[0]).tolist() == [0, 1, 2, 3, 5]
    assert np.flatnonzero(written[1]).tolist() == [0]


def test_tokens_past_the_capacity_are_dropped() -> None:
    cache = truncate(MODEL.init_cache(B, S), jnp.array([S - 2, 0]))
    before = jax.tree.map(np.asarray, cache)
    after = RUN(MODEL, jnp.ones((B, T), int), cache).cache
    np.testing.assert_array_equal(after.v[:, 0, :, : S - 2], before.v[:, 0, :, : S - 2])
    assert (np.abs(after.v[0, 0, 0, S - 2 :]).sum(1) > 0).all()
    with pytest.raises(ValueError, match="13 new tokens exceed the cache's capacity of 12"):
        extend(MODEL, jnp.ones((B, S + 1), int), cache)


def ancestors(parent) -> list[list[int]]:
    """Nodes from the root of the tree down to each node, itself included."""
    paths: list[list[int]] = []
    for node, above in enumerate(parent):
        paths.append([*(paths[above] if above >= 0 else []), node])
    return paths


@given(data=st.data())
def test_any_tree_of_drafts_and_the_path_kept(data) -> None:
    """Every node sees its ancestors; a kept path continues as if it had been decoded."""
    lengths = tuple(data.draw(st.integers(0, 5)) for _ in range(B))
    trees = [[data.draw(st.integers(-1, node - 1)) for node in range(T)] for _ in range(B)]
    tokens = [[data.draw(st.integers(0, 4)) for _ in range(T)] for _ in range(B)]
    chosen = [data.draw(st.integers(0, T - 1)) for _ in range(B)]
    cache, _ = begin(lengths)
    paths = [ancestors(tree) for tree in trees]
    block = np.zeros((B, T, T), bool)
    for row, node in np.ndindex(B, T):
        block[row, node, paths[row][node]] = True
    depth = jnp.array([[len(path) - 1 for path in row] for row in paths])
    output = RUN(MODEL, jnp.array(tokens), cache, depth=depth, block=jnp.asarray(block))
    for row, node in np.ndindex(B, T):
        branch = [tokens[row][n] for n in paths[row][node]]
        check(output.logits[row, node], SEQUENCES[row][: lengths[row]] + branch)

    path = np.full((B, T), 99)
    count = np.array([len(paths[row][chosen[row]]) for row in range(B)])
    for row in range(B):
        path[row, : count[row]] = paths[row][chosen[row]]
    kept = poison(KEEP(output.cache, jnp.asarray(path), jnp.asarray(count)))
    np.testing.assert_array_equal(kept.length, np.array(lengths) + count)
    for row in range(B):
        expected = np.arange(kept.length[row])
        np.testing.assert_array_equal(kept.position[row, : kept.length[row]], expected)
    after = RUN(MODEL, jnp.array([[3], [1]]), kept)
    for row, last in enumerate((3, 1)):
        branch = [tokens[row][n] for n in paths[row][chosen[row]]]
        check(after.logits[row, 0], [*SEQUENCES[row][: lengths[row]], *branch, last])


def test_an_invalid_node_is_seen_by_nobody() -> None:
    cache, _ = begin((2, 4))
    valid = jnp.array([[True, False, True, True], [True, True, True, False]])
    tokens = [[1, 2, 3, 4], [4, 3, 2, 1]]
    everyone = jnp.ones((B, T, T), bool)
    logits = RUN(MODEL, jnp.array(tokens), cache, block=everyone, valid=valid).logits
    for row, length in enumerate((2, 4)):
        pairs = list(enumerate(SEQUENCES[row][:length]))
        pairs += [(length + t, tokens[row][t]) for t in range(T) if valid[row, t]]
        for t in np.flatnonzero(valid[row]):
            np.testing.assert_allclose(logits[row, t], visible_logits(MODEL, pairs), 1e-4, 1e-4)


def test_a_bidirectional_block_can_be_run_again() -> None:
    """Tokens of a block see each other; a second call on new tokens forgets the first."""
    cache, _ = begin((3, 1))
    everyone = jnp.ones((B, T, T), bool)
    for tokens in ([[0, 0, 0, 0], [0, 0, 0, 0]], [[0, 3, 0, 1], [2, 0, 4, 0]]):
        output = RUN(MODEL, jnp.array(tokens), cache, block=everyone)
        for row, length in enumerate((3, 1)):
            text = SEQUENCES[row][:length] + tokens[row]
            for t in range(T):
                check(output.logits[row, t], text)
        cache = poison(output.cache)


def test_a_rejected_draft_leaves_no_trace() -> None:
    """Draft, roll back and go on, against never having drafted."""
    cache, root = begin((3, 1))
    drafted = RUN(MODEL, jnp.full((B, T), 4), cache).cache
    rolled = truncate(drafted, cache.length)
    again, clean = (RUN(MODEL, root[:, None], c).logits for c in (rolled, cache))
    np.testing.assert_array_equal(again, clean)
    partly = truncate(drafted, cache.length + jnp.array([2, 0]))
    logits = RUN(MODEL, root[:, None], poison(partly)).logits
    check(logits[0, 0], [*SEQUENCES[0][:3], 4, 4, SEQUENCES[0][3]])
    check(logits[1, 0], SEQUENCES[1][:2])


def test_forked_rows_go_their_own_ways() -> None:
    cache, _ = begin((3, 1))
    forked = fork(cache, jnp.array([[1, 0, 0, 1]]))
    tokens = [0, 1, 2, 3]
    output = RUN(MODEL, jnp.array(tokens)[:, None], forked)
    lengths = [1, 3, 3, 1]
    for row, parent in enumerate([1, 0, 0, 1]):
        check(output.logits[row, 0], [*SEQUENCES[parent][: lengths[row]], tokens[row]])
    cache = poison(truncate(output.cache, forked.length + 1))
    state = gather({"cache": cache, "text": jnp.array(tokens)}, jnp.array([[3, 3]]))
    np.testing.assert_array_equal(state["text"], [3, 3])
    output = RUN(MODEL, jnp.array([[4], [0]]), state["cache"])
    for row, last in enumerate((4, 0)):
        check(output.logits[row, 0], [*SEQUENCES[1][:1], 3, last])


@pytest.mark.parametrize("capacity", [6, 20])
def test_a_resized_cache_goes_on(capacity) -> None:
    cache, root = begin((3, 1))
    output = RUN(MODEL, root[:, None], poison(resize(cache, capacity)))
    assert output.cache.capacity == capacity
    for row, length in enumerate((3, 1)):
        check(output.logits[row, 0], SEQUENCES[row][: length + 1])


def test_fresh_and_empty_say_the_same() -> None:
    tokens = jnp.array([s[:T] for s in SEQUENCES])
    cache = MODEL.init_cache(B, S)
    fresh, plain = (extend(MODEL, tokens, cache, fresh=fresh).logits for fresh in (True, False))
    np.testing.assert_array_equal(fresh, plain)
