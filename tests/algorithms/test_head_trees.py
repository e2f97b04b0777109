"""Trees of the most probable tokens, and the rule that accepts what is typical."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.nucleus import Nucleus
from algorithms.speculative.drafters.ranked import Ranked
from algorithms.speculative.verifiers.typical import Typical
from jaxdecode.draft import Draft, Shape, Spent
from jaxdecode.judge import Judge
from jaxdecode.logits import Temperature
from jaxdecode.sampling import Categorical
from models.heads.medusa import Medusa
from tests.conformance.heads import noise

V = 16


def law(*first: float) -> np.ndarray:
    """A law over V tokens that begins so; the rest share what is left."""
    rest = (1 - sum(first)) / (V - len(first))
    return np.array([*first, *[rest] * (V - len(first))])


def scripted(levels):
    """A guess whose law after a token is levels[index][token]; of the root, levels[0][-1]."""

    def guess(index, hidden, token):
        table = np.full((V, V), 1 / V)
        for own, row in levels[index].items():
            table[own] = row
        logits = jnp.log(jnp.asarray(table, jnp.float32))[jnp.maximum(token, 0)]
        if index == 0:
            logits = jnp.broadcast_to(jnp.log(jnp.asarray(levels[0][-1])), logits.shape)
        return logits, hidden

    return guess


def grow(plan, levels):
    @jax.jit
    def grown():
        root, limit = jnp.zeros((1,), jnp.int32), jnp.full((1,), 9)
        return plan(scripted(levels), jnp.zeros((1, 2)), root, limit, plan.levels(len(levels)))

    return jax.device_get(grown())


def paths(grown) -> list[tuple[int, ...]]:
    """The valid nodes as tokens from the root, in order."""
    found: list[tuple[int, ...]] = []
    for node, parent in enumerate(np.asarray(grown.shape.parent)[0]):
        above = found[parent] if parent >= 0 else ()
        found.append((*above, int(grown.tokens[0, node])))
    return [path for path, there in zip(found, np.asarray(grown.valid)[0], strict=True) if there]


def test_the_published_example_of_a_tree_of_four():
    first = np.zeros(V)
    first[:5] = 0.5, 0.3, 0.1, 0.05, 0.05
    levels = [{-1: first}, {0: law(0.8, 0.1), 1: law(0.3, 0.1)}]
    assert paths(grow(Nucleus(4, 0.8), levels)) == [(0,), (1,), (0, 0), (1, 0)]


def test_a_quarter_of_the_first_is_the_least():
    first = np.zeros(V)
    first[:5] = 0.6, 0.1, 0.1, 0.1, 0.1
    assert paths(grow(Nucleus(4, 0.95), [{-1: first}])) == [(0,)]


@pytest.mark.parametrize("budget", [1, 2, 5, 9])
def test_the_budget_holds_and_no_child_stands_without_its_parent(budget):
    rng = np.random.default_rng(budget)
    levels = [{t: rng.dirichlet(np.ones(V)) for t in range(-1, V)} for _ in range(3)]
    found = paths(grow(Nucleus(budget, 0.9, 0.1), levels))
    assert 1 <= len(found) <= budget
    assert all(len(path) == 1 or path[:-1] in found for path in found)
    assert len(set(found)) == len(found)
    if budget == 1:
        assert found == [(int(np.argmax(levels[0][-1])),)]


def test_the_most_probable_paths_of_a_level_are_kept():
    """By brute force, without the top-p and the quarter rule."""
    rng = np.random.default_rng(3)
    levels = [{t: rng.dirichlet(np.ones(V)) for t in range(-1, V)} for _ in range(2)]
    found = paths(grow(Nucleus(6, 1.0, 0.0), levels))
    firsts = sorted(range(V), key=lambda t: -levels[0][-1][t])[:6]
    assert found == [(t,) for t in firsts]


def test_medusas_example_of_a_tree_of_ranks():
    plan = Ranked.of([[1], [0], [0, 1], [0, 0]])
    first, second = law(0.1, 0.4, 0.2), law(0.05, 0.1, 0.3, 0.5)
    grown = grow(plan, [{-1: first}, {t: second for t in range(V)}])
    assert grown.tokens[0].tolist() == [1, 2, 3, 2]
    np.testing.assert_array_equal(plan.parents, [-1, -1, 0, 0])
    np.testing.assert_array_equal(grown.shape.depth[0], [1, 1, 2, 2])
    assert grown.shape.seen is not None
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    np.testing.assert_array_equal(grown.shape.seen[0], np.array(expected, bool))


def test_a_line_of_ranks_is_a_chain():
    grown = grow(Ranked.line(2), [{-1: law(0.5)}, {0: law(0.1, 0.6)}])
    assert grown.shape.chain
    assert grown.tokens[0].tolist() == [0, 1]


def test_the_best_tree_of_ranks_has_the_largest_sum_of_products():
    accuracy = np.array([[0.6, 0.2], [0.5, 0.3], [0.4, 0.1]])
    tree = Ranked.best(accuracy, 4)
    assert tree.paths == ((0,), (1,), (0, 0), (0, 1))  # .6, .2, .3, .18 before .12 and .1
    assert Ranked.best(accuracy, 99).nodes == 2 + 4 + 8


@pytest.mark.parametrize(
    ("p", "bound"),
    [
        ((0.6, 0.3, 0.1), 0.09),
        ((0.99, 0.01), 0.09),
        ((0.01,) * 100, 0.003),
        ((0.25,) * 4, 0.075),
    ],
)
def test_what_is_typical(p, bound):
    found = Typical().bound(jnp.array([p], jnp.float32))
    np.testing.assert_allclose(found, [bound], rtol=1e-4)


def test_typical_acceptance_takes_the_deepest_and_then_the_likeliest_path():
    """Against a loop over the paths of random trees."""
    rng, rows, nodes, depth = np.random.default_rng(5), 6, 7, 3
    parent = np.array([-1, -1, 0, 0, 1, 2, 4], np.int32)
    logits = 2.5 * rng.normal(size=(rows, nodes + 1, V)).astype(np.float32)
    tokens = rng.integers(V, size=(rows, nodes)).astype(np.int32)
    tokens[:, :4] = np.argsort(-logits[:, 0])[:, :4]
    draft = Draft(
        tokens=jnp.asarray(tokens),
        shape=Shape.fixed(parent, rows),
        valid=jnp.asarray(rng.random((rows, nodes)) < 0.95),
        spent=Spent.nothing(rows),
    )
    zero = jnp.zeros((rows,), jnp.int32)
    keys = jax.random.split(jax.random.key(1), rows)
    judge = Judge(
        logits=jnp.asarray(logits),
        transform=Temperature(0.7),
        sampler=Categorical(),
        state=(),
        key=keys,
        step=zero,
        active=jnp.ones((rows,), bool),
    )
    verdict = Typical(0.2, 0.45)(keys, judge, draft, depth)
    assert int(jnp.max(verdict.count)) > 1
    for row in range(rows):
        laws = np.asarray(jax.nn.softmax(logits[row] / 0.7, axis=-1), np.float64)
        held: dict[tuple[int, ...], float] = {(): 0.0}
        for node in range(nodes):
            above = next((p for p in held if (p[-1] if p else -1) == parent[node]), None)
            if above is None or not draft.valid[row, node]:
                continue
            p = laws[parent[node] + 1]
            own = p[tokens[row, node]]
            if own > min(0.2, 0.45 * np.exp(np.sum(p * np.log(p)))):
                held[(*above, node)] = held[above] + float(np.log(own))
        best = max(held, key=lambda path: (len(path), held[path]))
        count = int(verdict.count[row])
        assert tuple(np.asarray(verdict.path)[row, :count]) == best


def test_medusas_later_guesses_do_not_hang_on_the_first():
    heads = noise(Medusa(jnp.zeros((1, 4, 4)), jnp.zeros((1, 4)), jnp.zeros((1, 4, V))))
    hidden = jnp.ones((1, 2, 4))
    logits, after = heads.guess(None, 0, hidden, jnp.array([[1, 2]]))
    np.testing.assert_array_equal(logits[0, 0], logits[0, 1])
    np.testing.assert_array_equal(after, hidden)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ranked(()), "at least one"),
        (lambda: Ranked(((0, 0),)), "without its parent"),
        (lambda: Ranked(((1,), (0,))), "sorted"),
        (lambda: Ranked.of([(0,), (-1,)]), "no path of ranks"),
        (lambda: Ranked.line(3).levels(2), "3 deep"),
        (
            lambda: grow(Ranked.of([(r,) for r in range(V + 1)]), [{-1: law()}]),
            r"ranks=17 must lie in 1\.\.16",
        ),
        (lambda: Nucleus(0), "budget=0"),
        (lambda: Nucleus(4, 1.5), "top_p=1.5"),
        (lambda: Typical(0.0), "epsilon=0.0"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
