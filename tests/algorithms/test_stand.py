"""STAND: means of laws, draws without replacement, acceptance, trees, and what is learned."""

from __future__ import annotations

from functools import cache, partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.drafters.stand import Stand
from algorithms.speculative.drafters.static_trees import likely_tree, useful_tree
from algorithms.speculative.learning import Learning
from algorithms.speculative.stand import PRIORS, first_tree, stand
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.residual import Residual
from jaxdecode.draft import Draft, Verdict
from jaxdecode.drafter import Now, Verifier
from jaxdecode.judge import Judge
from jaxdecode.logits import Identity
from jaxdecode.ngram.laws import complete, fold, likeliest, longest
from jaxdecode.ngram.table import FREE, Table
from jaxdecode.paper import citation
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.testing.enumerable import EnumerableLM, next_probs
from jaxdecode.testing.statistics import assert_distribution, power, rejects
from tests.markov import MarkovLM, generator
from tests.references import stand as reference

ROWS = 20000
P, Q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.5, 0.3, 0.15, 0.05])


def listed(table: Table, prompt: int) -> dict[tuple[int, ...], dict[int, float]]:
    """Every context of a prompt's table and its law."""
    own = (x[prompt].reshape(-1, x.shape[-1]) for x in (table.keys, table.tokens, table.values))
    slots = zip(table.count[prompt].ravel(), *own, strict=True)
    return {
        tuple(int(t) for t in key if t != FREE): {
            int(t): float(v) for t, v in zip(tokens, values, strict=True) if t != FREE
        }
        for count, key, tokens, values in slots
        if count > 0
    }


@jax.jit
def fold_one(table: Table, newest, law) -> Table:
    return fold(table, newest, likeliest(law, 4), jnp.ones(len(newest), bool), (2, 1))


def test_means_of_laws() -> None:
    bob, mary, tom, sue, ann = range(5)
    table = Table.empty(1, 64, 2, 5)
    told = [{bob: 0.7, mary: 0.2, tom: 0.05}, {bob: 0.3, mary: 0.6, sue: 0.05}]
    told.append({bob: 0.4, mary: 0.1, ann: 0.4})
    expected = [
        told[0],
        {bob: 0.5, mary: 0.4, tom: 0.025, sue: 0.025},
        {bob: 0.466667, mary: 0.3, tom: 0.016667, sue: 0.016667, ann: 0.133333},
    ]
    for law, mean in zip(told, expected, strict=True):
        table = jax.jit(fold, static_argnums=4)(
            table,
            jnp.array([[7, 8]]),
            likeliest(
                jnp.zeros((1, 9)).at[0, jnp.array([*law])].set(jnp.array([*law.values()])), 5
            ),
            jnp.array([True]),
            (2, 1),
        )
        entry = table.read(jnp.array([[[7, 8], [FREE, 8], [FREE, 7]]]))
        for place in range(2):
            held = dict(
                zip(entry.tokens[0, place].tolist(), entry.values[0, place].tolist(), strict=True)
            )
            held.pop(FREE, None)
            assert held.keys() == mean.keys()
            assert all(abs(held[token] - mean[token]) < 1e-5 for token in mean)
        assert not entry.found[0, 2]


def test_the_longest_known_context_counts() -> None:
    table = fold_one(Table.empty(1, 64, 2, 4), jnp.array([[3, 1]]), jnp.array([[0, 0.9, 0.1]]))
    table = fold_one(table, jnp.array([[2, 1]]), jnp.array([[0.5, 0.5, 0]]))
    entry = longest(table, jnp.array([[[3, 1], [0, 1], [1, 2], [-1, 1]]]), (2, 1))
    assert entry.count.tolist() == [[1, 2, 0, 2]]
    np.testing.assert_allclose(entry.values[0, 0, :2], [0.9, 0.1], atol=1e-6)
    np.testing.assert_allclose(entry.values[0, 1, :3], [0.7, 0.25, 0.05], atol=1e-6)
    assert complete(jnp.array([-1, 4]), (2, 1)).tolist() == [False, True]


def memory(q: np.ndarray) -> Table:
    """A table that says q after token 0."""
    law = jnp.asarray(q, jnp.float32)[None]
    valid = jnp.array([True])
    return fold(Table.empty(1, 8, 1, 4), jnp.array([[0]]), likeliest(law, 4), valid, (1,))


@partial(jax.jit, static_argnums=(3, 4))
def one_node(
    q_memory: Table, law: jax.Array, key: jax.Array, drafter: tuple[int, bool], verifier: Verifier
) -> tuple[Draft, Verdict]:
    """Many rows of one prompt draft and verify the children of the root."""
    children, stochastic = drafter
    model = MarkovLM(jnp.log(jnp.broadcast_to(law, (4, 4))))
    own = Stand(4, (-1,) * children, q_memory, stochastic, sampler=None, orders=(1,), width=4)
    state = own.init(model, Prompt.of([[0]], width=1), jnp.zeros((1, 0, 4)), 4, 4)
    state = jax.tree.map(lambda x: jnp.repeat(x, ROWS, axis=0), (state.text, state.hits))
    shared = own.init(model, Prompt.of([[0]], width=1), jnp.zeros((1, 0, 4)), 4, 4).table
    known = type(own.init(model, Prompt.of([[0]], width=1), jnp.zeros((1, 0, 4)), 4, 4))(
        state[0], shared, state[1]
    )
    zero, active = jnp.zeros((ROWS,), jnp.int32), jnp.ones((ROWS,), bool)
    keys = jax.random.split(key, (3, ROWS))
    now = Now(zero, zero, zero, zero + 9, active, model.init_cache(ROWS, 1), (), keys[0])
    draft, _ = own.propose(model, known, now)
    judge = Judge(
        logits=jnp.broadcast_to(jnp.log(law), (ROWS, children + 1, 4)),
        transform=Identity(),
        sampler=Categorical(),
        state=(),
        key=keys[1],
        step=zero,
        active=active,
    )
    return draft, verifier(keys[2], judge, draft, 1)


def emitted(draft: Draft, verdict: Verdict) -> np.ndarray:
    taken = np.take_along_axis(np.asarray(draft.tokens), np.asarray(verdict.path), axis=1)[:, 0]
    return np.where(np.asarray(verdict.count) > 0, taken, np.asarray(verdict.next))


CASES = {
    "near": (P, Q, (0.9, 0.94, 0.975), (0.4, 0.7, 0.9)),
    "uniform": (np.full(4, 0.25), P, (0.8, 0.882143, 0.920149), (0.25, 0.5, 0.75)),
    "truncated": (P, np.array([0.625, 0.375, 0, 0]), (0.7, 0.7), (0.4, 0.7)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("children", [1, 2, 3])
def test_acceptance_is_the_worked_one_and_the_law_is_kept(name: str, children: int) -> None:
    p, q, drawn, chosen = CASES[name]
    if children > len(drawn):  # no more children than the law has tokens
        children, drawn = 3, (*drawn, drawn[-1])
        chosen = (*chosen, chosen[-1])
    expected, law = reference.accepts(p, q, children)
    np.testing.assert_allclose(law, p, atol=1e-9)
    assert abs(expected - drawn[children - 1]) < 1e-6
    for stochastic, verifier, rate in (
        (True, Residual(), expected),
        (False, Match(), chosen[children - 1]),
    ):
        draft, verdict = one_node(
            memory(q), jnp.asarray(p), jax.random.key(3), (children, stochastic), verifier
        )
        assert_distribution(emitted(draft, verdict), p, family=18)
        assert_distribution(np.asarray(verdict.count), {1: rate, 0: 1 - rate}, family=18)


def test_wrong_rules_are_caught() -> None:
    """Not normalising q shows in the law; matching drawn drafts shows in acceptance alone."""
    _, wrong = reference.accepts(P, Q, 2, normalise=False)
    np.testing.assert_allclose(wrong, [0.4, 0.3, 0.20625, 0.09375], atol=1e-6)
    rounds = [
        one_node(memory(Q), jnp.asarray(P), jax.random.key(seed), (2, True), Residual())
        for seed in range(5)
    ]
    found = np.concatenate([emitted(*round_) for round_ in rounds])
    assert power(len(found), P, dict(enumerate(wrong))) > 0.999
    assert_distribution(found, P)
    assert rejects(found, wrong)
    for children, rate in ((1, 0.325), (2, 0.619615), (3, 0.857553)):
        draft, verdict = one_node(
            memory(Q), jnp.asarray(P), jax.random.key(3), (children, True), Match()
        )
        assert_distribution(emitted(draft, verdict), P, family=6)
        assert_distribution(np.asarray(verdict.count), {1: rate, 0: 1 - rate}, family=6)


def test_children_are_drawn_in_order_without_replacement() -> None:
    q = np.array([0.5, 0.3, 0.2, 0.0])
    pairs = {
        (0, 1): 0.3,
        (0, 2): 0.2,
        (1, 0): 0.214286,
        (1, 2): 0.085714,
        (2, 0): 0.125,
        (2, 1): 0.075,
    }
    assert all(abs(reference.draws(q, 2)[pair] - value) < 1e-6 for pair, value in pairs.items())
    draft, _ = one_node(memory(q), jnp.asarray(P), jax.random.key(8), (2, True), Residual())
    assert_distribution(np.asarray(draft.tokens), reference.draws(q, 2))
    assert draft.logq is not None
    np.testing.assert_allclose(np.exp(draft.logq[0, 0]), q, atol=1e-6)
    other, _ = one_node(memory(q), jnp.asarray(P), jax.random.key(9), (2, True), Residual())
    assert (draft.tokens != other.tokens).any()  # noise of another round is other noise


MODEL = EnumerableLM.random(4, 6)
TREE = likely_tree((0.5, 0.2, 0.1), 12, 4)


@cache
def sampled(samples: int, stochastic: bool = True):
    """Samples of two prompts that share their prompt's table, and what was learned."""
    speculator = stand(generator(MODEL, 10, Categorical()), TREE, None, stochastic, 2048)
    prompt = Prompt.of([[1, 2, 3], [4]], width=4)

    @jax.jit
    def run(key):
        rows = speculator.start(key, prompt, samples, 14)
        return speculator.advance(rows, jnp.full_like(rows.length, 14))

    return jax.device_get(run(jax.random.key(1)))


@pytest.mark.parametrize("samples", [1, 3])
def test_the_table_is_what_the_texts_teach(samples: int) -> None:
    """Every position of prompt and output once, whatever was drafted, all samples together."""
    rows = sampled(samples)
    assert rows.usage.accepted.sum() > 0
    for number, prompt in enumerate(([1, 2, 3], [4])):
        mine = rows.tokens[number * samples : (number + 1) * samples].tolist()
        texts = [[*prompt, *tokens] for tokens in mine]
        # The prompt is read once for all samples.
        laws = reference.rebuilt([texts[0]], partial(next_probs, MODEL), (4, 3, 2, 1))
        for text in texts[1:]:
            for end in range(len(prompt), len(text)):
                law = dict(enumerate(next_probs(MODEL, text[:end])))
                for order in range(1, min(4, end) + 1):
                    reference.observe(laws, tuple(text[end - order : end]), law)
        held = listed(rows.speculation[0].table.value, number)
        assert held.keys() == laws.keys()
        for context, (law, _) in laws.items():
            assert held[context].keys() == law.keys()
            assert all(abs(held[context][token] - law[token]) < 1e-4 for token in law)


def test_hits_count_accepted_nodes() -> None:
    rows = sampled(3)
    hits = rows.speculation[0].hits
    accepted, cut = rows.usage.accepted, rows.usage.truncated
    assert (hits.sum(1) <= accepted).all() and (hits.sum(1) >= accepted - cut).all()
    assert (hits.sum(1) == accepted)[cut == 0].all() and (cut == 0).any()
    parent = np.array(TREE)
    inner = parent >= 0
    assert (hits[:, inner] <= hits[:, parent[inner]]).all()


def test_a_table_is_handed_on() -> None:
    """A later sample that starts from the table of earlier ones is accepted more."""
    model = EnumerableLM.random(4, 6, sharpness=3.0)

    @jax.jit
    def decoded(decoder):
        return decoder(jax.random.key(2), Prompt.of([[1, 2]], width=4))

    def run(table):
        speculator = stand(generator(model, 12, Categorical()), TREE, table, capacity=2048)
        return decoded(Learning(speculator))

    cold = run(Table.empty(1, 2048, 4, 10))
    hot = run(cold.trace.table.value)
    assert hot.usage.accepted[0] > cold.usage.accepted[0]


def test_likely_trees() -> None:
    tree = likely_tree(PRIORS, 80, 20)
    likelihood = np.ones(81)
    for node, parent in enumerate(tree):
        likelihood[node + 1] = likelihood[parent + 1] * PRIORS[tree[:node].count(parent)]
    assert abs(likelihood[1:].sum() - 3.481415) < 1e-6
    assert len(first_tree()) == 625
    assert likely_tree((0.5,), 3, 5) == (-1, 0, 1)
    assert likely_tree((0.5, 0.4), 4, 4, chain=4) == (-1, 0, 1, 2)


def test_useful_trees_are_the_best_there_are() -> None:
    """Against every subset of a tree of 12 nodes."""
    random = np.random.default_rng(0)
    tree = np.array([-1, -1, -1, 0, 0, 1, 2, 2, 3, 4, 6, 8])
    for _ in range(3):
        count = random.integers(10, 30, 12)
        for node, parent in enumerate(tree):
            count[node] = min(
                count[node], count[parent] - random.integers(0, 3) if parent >= 0 else 99
            )
        best = max(
            sum(count[list(kept)])
            for kept in combinations(range(12), 6)
            if all(tree[node] < 0 or tree[node] in kept for node in kept)
        )
        order = np.lexsort((np.arange(12), -count))
        assert count[order[:6]].sum() == best  # what is kept by count alone is a tree
        found = useful_tree(tree.tolist(), count.tolist(), 6)
        assert len(found) == 6 and all(-1 <= parent < node for node, parent in enumerate(found))
    assert useful_tree((-1, -1, 0, 1, 1), (5, 9, 1, 2, 7), 3) == (-1, -1, 1)
    with pytest.raises(ValueError, match=r"counts\[2\]=6 exceeds that of its parent, 5"):
        useful_tree((-1, -1, 0), (5, 9, 6), 2)


def test_bad_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="name the longest context first"):
        Stand(4, (-1,), orders=(1, 2))
    with pytest.raises(ValueError, match="a node has 3 children, and a law width=2"):
        Stand(4, (-1, -1, -1), width=2)
    with pytest.raises(ValueError, match="tree of 0 nodes"):
        Stand(4, ())
    with pytest.raises(ValueError, match="falling probabilities"):
        likely_tree((0.2, 0.5), 3, 3)
    with pytest.raises(ValueError, match="and a chain that fits"):
        likely_tree((0.5,), 3, 3, chain=4)
    speculator = stand(generator(MODEL, 3), TREE, None, stochastic=False)
    with pytest.raises(ValueError, match="Residual needs the law"):
        Speculator(speculator.generator, speculator.drafter, Residual())


def test_it_is_cited() -> None:
    assert "@misc{stand2025," in citation(stand(generator(MODEL, 3), TREE))
