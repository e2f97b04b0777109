"""RASD: pruning by the drafter's law, and fusion by longest prefix match."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.eagle import Eagle
from algorithms.speculative.drafters.fusion import fuse
from algorithms.speculative.drafters.rasd import Rasd
from algorithms.speculative.drafters.retrieval import Datastore, Within
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.trie import Continuations, Tree, grow
from tests.conformance.heads import of_vocabulary

LETTERS = "ABCDEGHXYZQ"
LONGEST = 3


def draft_of(paths: list[str]) -> Draft:
    """A draft of these nodes, in this order."""
    parent = [paths.index(path[:-1]) if len(path) > 1 else -1 for path in paths]
    tokens = jnp.array([[LETTERS.index(path[-1]) for path in paths]])
    shape = Shape.fixed(np.array(parent), 1)
    return Draft(tokens, shape, jnp.ones(tokens.shape, bool), Spent.nothing(1))


def found(rows: list[str]) -> Continuations:
    padded = [[LETTERS.index(c) for c in row] + [-1] * (LONGEST - len(row)) for row in rows]
    return Continuations(jnp.array([padded]), jnp.ones((1, len(rows))))


def spelled(nodes: Draft | Tree) -> list[str]:
    """The valid nodes as words, in order."""
    parent = nodes.shape.parent if isinstance(nodes, Draft) else nodes.parent
    words: list[str] = []
    for token, above in zip(np.asarray(nodes.tokens)[0], np.asarray(parent)[0], strict=True):
        words.append((words[above] if above >= 0 else "") + LETTERS[token])
    return [word for word, there in zip(words, np.asarray(nodes.valid)[0], strict=True) if there]


def drafter(**settings) -> Rasd:
    head = of_vocabulary("eagle", len(LETTERS), 8)
    return Rasd(Eagle(head, 2, 2, 4), Within(), **settings)


DRAFTED = ["A", "B", "AC", "AD", "BE"]
RETRIEVED = ["ACG", "ACG", "AX", "BEH", "ZQ"]


def favouring(letters: str) -> jax.Array:
    return jnp.array([[0.0 if c in letters else -5.0 for c in LETTERS]])


def test_the_worked_example_of_pruning_and_fusion():
    pruned = drafter(candidates=3).pruned(found(RETRIEVED), favouring("ABY"))
    tree = grow(pruned, 10)
    weights = dict(zip(spelled(tree), np.asarray(tree.weight)[0], strict=False))
    assert weights == {"A": 3, "B": 1, "AC": 2, "AX": 1, "BE": 1, "ACG": 2, "BEH": 1}
    fused = fuse(draft_of(DRAFTED), tree, LONGEST)
    words = spelled(fused)
    assert words[:5] == DRAFTED
    assert sorted(words) == sorted([*DRAFTED, "AX", "ACG", "BEH"])  # 8 = 5 + 7 - 4
    depth, seen = np.asarray(fused.shape.depth)[0], fused.shape.seen
    valid = np.asarray(fused.valid)[0]
    assert depth[valid].tolist() == [len(word) for word in words]
    assert seen is not None
    for word in ("ACG", "BEH"):
        ancestors = {words.index(word[: i + 1]) for i in range(len(word))}
        assert set(np.flatnonzero(np.asarray(seen)[0, words.index(word)])) == ancestors


def test_the_first_choices_alone_are_kept_and_ties_go_to_the_lower_number():
    law = favouring("AB")
    for candidates, kept in ((0, "AABZ"), (1, "AA"), (2, "AAB"), (len(LETTERS), "AABZ")):
        pruned = drafter(candidates=candidates).pruned(found(["AC", "AD", "BE", "ZQ"]), law)
        there = np.asarray(pruned.weight)[0] > 0
        assert "".join(np.array(list("AABZ"))[there]) == kept


@pytest.mark.parametrize(
    ("one", "other", "union"),
    [
        (["A", "AB", "ABC"], ["ABX"], ["A", "AB", "ABC", "ABX"]),
        (["A", "AB"], ["XY"], ["A", "AB", "X", "XY"]),
        (["A", "B", "AC"], ["AC", "B"], ["A", "B", "AC"]),
    ],
)
def test_fusion_is_the_union_of_paths(one, other, union):
    fused = fuse(draft_of(one), grow(found(other), 6), LONGEST)
    assert sorted(spelled(fused)) == sorted(union)


def test_random_trees_fuse_to_their_union_and_without_merging_to_their_sum():
    rng = np.random.default_rng(2)
    join = jax.jit(fuse, static_argnums=(2, 3))
    for _ in range(8):
        rows = ["".join(rng.choice(list("AB"), LONGEST)) for _ in range(4)]
        first = sorted({row[: i + 1] for row in rows[:2] for i in range(LONGEST)}, key=len)
        padded = draft_of(first + ["Q"] * (6 - len(first)))
        valid = jnp.arange(6) < len(first)
        padded = Draft(padded.tokens, padded.shape, valid[None], padded.spent)
        tree = grow(found(rows[2:]), 6)
        second = spelled(tree)
        fused = join(padded, tree, LONGEST, True)
        assert sorted(spelled(fused)) == sorted({*first, *second})
        beside = join(padded, tree, LONGEST, False)
        assert sorted(spelled(beside)) == sorted([*first, *second])


def test_nothing_retrieved_leaves_the_draft_as_it_was():
    nothing = Continuations(jnp.full((1, 2, LONGEST), -1), jnp.zeros((1, 2)))
    fused = fuse(draft_of(DRAFTED), grow(nothing, 4), LONGEST)
    assert spelled(fused) == DRAFTED


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="extra=0"):
        drafter(extra=0)
    store = Datastore(Corpus.of([[0, 1, 2]], 3))
    head = of_vocabulary("eagle", len(LETTERS), 8)
    with pytest.raises(ValueError, match="3 tokens"):
        Rasd(Eagle(head, 2, 2, 4), store)
