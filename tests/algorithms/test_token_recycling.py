"""Token recycling: the published tree, the worked numbers, the table round by round."""

from __future__ import annotations

from collections import Counter
from functools import cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.superposed_decoding import SuperposedDecoding
from algorithms.speculative.drafters.token_recycling import (
    TREE,
    Recycler,
    levels,
    ranks,
    recycle,
    tree_of,
)
from algorithms.speculative.learning import Learning
from algorithms.speculative.token_recycling import token_recycling
from algorithms.speculative.verifiers.match import Match
from jaxdecode.draft import Shape
from jaxdecode.paper import citation
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import likeliest
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM, next_logits
from tests.markov import MarkovLM, emitted, generator, rounds
from tests.references import token_recycling as reference

SMALL = tree_of(".:3 0:2 1:1 00:1")


def paths(tree: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every node as the ranks of its path."""
    found: list[tuple[int, ...]] = []
    for above, rank in zip(tree, ranks(tree).tolist(), strict=True):
        found.append((*(found[above] if above >= 0 else ()), rank))
    return found


def test_the_tree_is_the_published_one() -> None:
    nodes = paths(TREE)
    assert len(nodes) == len(set(nodes)) == 80
    assert [len(level) for level in levels(TREE)] == [8, 21, 25, 15, 8, 3]
    assert nodes == sorted(nodes, key=lambda path: (len(path), path))
    for path in nodes:
        assert len(path) == 1 or path[:-1] in nodes
        assert path[-1] == 0 or (*path[:-1], path[-1] - 1) in nodes
    assert sum(path not in {other[:-1] for other in nodes} for path in nodes) == 40
    seen = np.asarray(Shape.fixed(np.array(TREE), 1).seen)
    assert seen.sum() + 81 == 324  # every node, and the root itself, sees the root
    for named in ("070", "021", "0040", "000100", "000001"):
        assert tuple(map(int, named)) in nodes


@cache
def counted(vocab: int, lazy: bool) -> list[int]:
    model = MarkovLM.cycle(vocab)
    drafter = Recycler(jnp.zeros((vocab, 8), jnp.int32), lazy=lazy)
    speculator = Speculator(generator(model, 100), drafter, Match())
    history = rounds(speculator, Prompt.of([[0]]))
    assert history[-1].tokens[0].tolist() == [(i + 1) % vocab for i in range(100)]
    return emitted(history)


def test_recycling_every_node_learns_faster() -> None:
    """The counts of a cycle of 10 and of 50 tokens, from an empty table."""
    assert counted(10, False)[:14] == [1, 1] + [7] * 12 and len(counted(10, False)) == 16
    assert counted(50, False)[:11] == [1, 1, 7, 5, 7, 5, 7, 5, 7, 7, 7]
    assert len(counted(50, False)) == 17
    assert counted(10, True)[:10] == [1] * 9 + [7] and len(counted(10, True)) == 22
    assert len(counted(50, True)) == 57


@pytest.mark.parametrize("winner", ["last", "first", "accepted"])
def test_rounds_are_those_of_the_reference(winner: Literal["last", "first", "accepted"]) -> None:
    """Text and table of two ragged rows, from a table of nonsense."""
    model = EnumerableLM.random(2, 6)
    table = jnp.asarray(np.random.default_rng(1).integers(0, 6, (6, 3)), jnp.int32)
    speculator = Speculator(generator(model, 9), Recycler(table, SMALL, winner), Match())
    prompt = Prompt.of([[1, 2], [3]], width=4)
    history = jax.device_get(rounds(speculator, prompt))
    for row, text in enumerate(([1, 2], [3])):
        held, start = np.asarray(table), len(text)
        for rows in history[1:]:
            if len(text) - start >= 9:
                break
            new, held = reference.round_(
                partial(next_logits, model), text, held, paths(SMALL), winner
            )
            text = (text + new)[: start + 9]
            assert text[start:] == rows.tokens[row, : rows.length[row]].tolist()
            np.testing.assert_array_equal(rows.speculation[0].table.value[row], held)


def test_of_nodes_with_one_token_one_wins() -> None:
    tokens = jnp.array([[1, 2, 1, 3, 1], [2, 2, 0, 0, 4]])
    best = jnp.arange(10).reshape(2, 5, 1)
    run = jnp.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    accepted = jnp.array([[1, 0, 1, 0, 0], [1, 0, 0, 0, 0]], bool)
    table = jnp.full((2, 5, 1), -7)

    def rows(table, winner):
        return recycle(table, tokens, best, run, accepted, winner)[..., 0].tolist()

    assert rows(table, "last") == [[-7, 4, 1, 3, -7], [7, -7, 6, -7, -7]]
    assert rows(table, "first") == [[-7, 0, 1, 3, -7], [7, -7, 5, -7, -7]]
    assert rows(table, "accepted") == [[-7, 2, 1, 3, -7], [7, -7, 5, -7, -7]]
    # Two rows of one prompt share a table, and the later row comes later.
    assert rows(table[:1], "last") == [[7, 4, 6, 3, -7]]
    assert rows(table[:1], "first") == [[7, 0, 1, 3, -7]]


def test_a_table_is_handed_on() -> None:
    """A second run that starts from the table of the first drafts well at once."""
    model, prompt = MarkovLM.cycle(50), Prompt.of([[0]])
    run = jax.jit(lambda table: Learning(token_recycling(generator(model, 42), table))(
        jax.random.key(0), prompt
    ))  # fmt: skip
    cold = run(jnp.zeros((50, 8), jnp.int32))
    hot = run(cold.trace.table.value[0])
    assert cold.usage.target_passes[0] > hot.usage.target_passes[0] == 6


def test_bad_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="4 successors a token, and the tree takes 8"):
        Recycler(jnp.zeros((9, 4), jnp.int32))
    with pytest.raises(ValueError, match="winner='best'"):
        Recycler(jnp.zeros((9, 8), jnp.int32), winner="best")  # pyright: ignore
    with pytest.raises(ValueError, match="its vocabulary has 9 tokens, the target's has 10"):
        token_recycling(generator(MarkovLM.cycle(10), 5), jnp.zeros((9, 8), jnp.int32))


def test_it_is_cited() -> None:
    text = citation(token_recycling(generator(MarkovLM.cycle(10), 5)))
    assert Counter(text.split())["@misc{token_recycling2024,"] == 1


def test_fewer_tokens_than_successors_are_refused_by_name() -> None:
    """When it is built, and where only the tracing knows the vocabulary, then."""
    model = MarkovLM.cycle(5)
    with pytest.raises(ValueError, match="table: 8 successors a token of a vocabulary of 5"):
        token_recycling(generator(model, 4))
    for name in ("kept", "branch"):
        with pytest.raises(ValueError, match=rf"{name}=8 must lie in 1\.\.5, the vocabulary"):
            likeliest(jnp.zeros((2, 5)), 8, name)
    layered = generator(EnumerableLM.random(0, 5), 4)
    with pytest.raises(ValueError, match=r"kept=8 exceeds the vocabulary of 5"):
        SuperposedDecoding(layered, 2, 8)
