"""Adaptive draft-verification: worked searches, the adapting table, rounds of a reference."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.speculative.aded import aded
from algorithms.speculative.drafters.aded import Adaptive
from algorithms.speculative.drafters.puct import Search, Successors, explore, search, sentences
from algorithms.speculative.drafters.retrieval import Datastore, Retrieval
from algorithms.speculative.learning import Learning
from algorithms.speculative.verifiers.match import Match
from algorithms.speculative.verifiers.redraw import Redraw
from jaxdecode.autoregress import generate
from jaxdecode.ngram.corpus import Corpus
from jaxdecode.ngram.counts import Counts
from jaxdecode.ngram.preferences import adapt, successors
from jaxdecode.ngram.table import FREE, Table
from jaxdecode.ngram.trie import grow
from jaxdecode.paper import citation
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical
from jaxdecode.speculate import Speculator
from jaxdecode.testing import naive
from jaxdecode.testing.enumerable import EnumerableLM, next_logits
from jaxdecode.testing.statistics import assert_distribution, rejects
from tests.markov import MarkovLM, emitted, generator, rounds
from tests.references import aded as reference

KNOWN: reference.Map = {
    (0, 1): {2: 0.6, 3: 0.4}, (1, 2): {3: 0.7, 4: 0.3}, (1, 3): {2: 0.5, 4: 0.5},
    (2, 3): {4: 0.9, 0: 0.1}, (2, 4): {1: 1.0}, (3, 2): {0: 0.8, 1: 0.2}, (3, 4): {0: 1.0},
    (4, 0): {1: 1.0}, (4, 1): {2: 1.0}, (2, 0): {1: 1.0}, (2, 1): {0: 1.0},
}  # fmt: skip


def reading(held: reference.Map, vocab: int, width: int = 4) -> Successors:
    """Look pairs up in a map."""
    tokens = np.full((vocab, vocab, width), FREE)
    values = np.zeros((vocab, vocab, width), np.float32)
    for pair in held:
        for place, (token, value) in enumerate(reference.ordered(held, pair)):
            tokens[pair][place], values[pair][place] = token, value
    table, worth = jnp.asarray(tokens), jnp.asarray(values)
    return lambda pairs: (table[pairs[..., 0], pairs[..., 1]], worth[pairs[..., 0], pairs[..., 1]])


def searched(
    held: reference.Map, root: tuple[int, int], iterations: int, c1=32.0, rollout=False, length=4
) -> Search:
    vocab = 1 + max(max(*pair, *row) for pair, row in held.items())
    keys = jax.random.split(jax.random.key(0), 1)
    run = jax.jit(
        lambda: search(
            keys, jnp.array([root]), reading(held, vocab), iterations, length, c1, 8.0, rollout
        )
    )
    return jax.device_get(run())


def visited(tree: Search) -> dict[tuple[int, ...], int]:
    """Visits by path."""
    paths: dict[int, tuple[int, ...]] = {-1: ()}
    found, width = {}, tree.tokens.shape[2]
    for node in range(int(tree.used[0])):
        above = paths[int(tree.above[0, node])]
        for place, token in enumerate(tree.tokens[0, node].tolist()):
            if token != FREE:
                paths[node * width + place] = (*above, token)
                found[(*above, token)] = int(tree.visits[0, node, place])
    return found


def test_exploration() -> None:
    one = jnp.ones((1, 1))
    for visits, rate in ((0, 32.117783), (10, 32.864997), (50, 33.998096), (150, 34.989463)):
        assert abs(reference.exploration(visits) - rate) < 1e-6
    for c1, score in ((32.0, 22.385649), (1.814, 3.294347)):
        found = explore(jnp.array([10.0]), 0.6 * one, 2 * one, 3.2 * one, c1, 8.0)
        assert abs(float(found[0, 0]) - score) < 1e-4
    assert explore(jnp.array([10.0]), one, 0 * one, 0 * one, 32.0, 8.0)[0, 0] == jnp.inf


@pytest.mark.parametrize(
    ("iterations", "c1", "rollout", "visits"),
    [
        (10, 32.0, False, [6, 3, 1]),
        (150, 32.0, False, [90, 45, 15]),
        (150, 32.0, True, [95, 42, 13]),
        (150, 1.814, False, [90, 45, 15]),
        (150, 1.814, True, [114, 29, 7]),
    ],
)
def test_visits_of_one_level(iterations: int, c1: float, rollout: bool, visits: list[int]) -> None:
    """Children of 0.6, 0.3 and 0.1 without successors; the value is 1 or 1 + P."""
    tree = searched({(4, 0): {1: 0.6, 2: 0.3, 3: 0.1}}, (4, 0), iterations, c1, rollout)
    assert list(visited(tree).values()) == visits and tree.total[0] == iterations
    assert (tree.child[0] <= 0).all() and tree.used[0] == 1


def test_the_worked_search() -> None:
    tree = searched(KNOWN, (0, 1), 30)
    names = {"2": 18, "3": 12, "23": 13, "24": 5, "32": 6, "34": 5, "234": 12, "230": 1}
    names |= {"241": 4, "320": 5, "321": 1, "340": 4}
    assert visited(tree) == {tuple(map(int, name)): count for name, count in names.items()}
    found = jax.jit(lambda tree: sentences(tree, reading(KNOWN, 5), 23, 4, 64))(tree)
    grown = jax.device_get(grow(found, 64, "shallow"))
    paths: list[tuple[int, ...]] = []
    for node in range(int(grown.valid.sum())):
        above = int(grown.parent[0, node])
        paths.append((*(paths[above] if above >= 0 else ()), int(grown.tokens[0, node])))
    words = "2 23 230 234 2340 24 241 2412 3 32 320 3201 321 3210 34 340 3401"
    assert sorted("".join(map(str, path)) for path in paths) == sorted(words.split(" "))


def random_map(seed: int, vocab: int = 5) -> reference.Map:
    random = np.random.default_rng(seed)
    held: reference.Map = {}
    for a in range(vocab):
        for b in range(vocab):
            after = random.choice(vocab, random.integers(0, 4), replace=False)
            held[a, b] = {int(t): float(np.float32(random.random())) for t in after}
    return held


def test_searches_and_sentences_are_those_of_the_reference() -> None:
    for seed in range(4):
        held = random_map(seed)
        tree = searched(held, (seed, 1), 40)
        nodes = reference.search(held, (seed, 1), 40)
        assert visited(tree) == {node.tokens: node.visits for node in nodes}
        found = jax.device_get(sentences(tree, reading(held, 5), 11, 4, 24))
        said = {
            tuple(t for t in row if t >= 0) for row in found.tokens[0][found.weight[0] > 0].tolist()
        }
        prefixes = {s[:n] for s in said for n in range(1, len(s) + 1)}
        assert prefixes == reference.trie(held, nodes, 12, 24)


CORPUS = Counts.of([np.random.default_rng(1).integers(0, 6, 60).tolist()], 6, keep=3)


def as_map(counts: Counts, vocab: int) -> reference.Map:
    pairs = jnp.asarray(np.stack(np.unravel_index(np.arange(vocab**2), (vocab,) * 2), axis=1))
    entry = jax.device_get(counts.read(pairs.astype(jnp.int32)))
    return {
        (int(a), int(b)): {int(t): float(v) for t, v in zip(tokens, values, strict=True) if t >= 0}
        for (a, b), tokens, values in zip(pairs.tolist(), entry.tokens, entry.values, strict=True)
    }


def test_the_newest_tokens_adapt_the_table() -> None:
    nothing = Counts.of([[5, 5, 5]], 6)
    step = jax.jit(lambda met, grams: adapt(met, nothing, grams, grams[..., 0] >= 0, 0.04, 0.1))
    read = jax.jit(lambda met, pair: successors(met, nothing, pair))
    met, held = Table.empty(1, 64, 2, 16), {(5, 5): {5: 1.0}}
    for text in ([1, 2, 3, 1, 2, 3], [1, 2, 3, 1, 2, 3, 1], [*range(5)] * 20, [4] * 9):
        newest = [-1] * 16 + text
        newest = newest[-16:]
        grams = jnp.array([[newest[i : i + 3] for i in range(14)]])
        met = step(met, grams)
        reference.adapt(held, text, cap=0.1)
        held[5, 5] = {5: 1.0}
        for pair, row in held.items():
            tokens, values = jax.device_get(read(met, jnp.array([[pair]])))
            got = dict(zip(tokens[0, 0].tolist(), values[0, 0].tolist(), strict=True))
            got.pop(FREE, None)
            assert got.keys() == row.keys()
            assert all(abs(got[token] - row[token]) < 1e-6 for token in row)
    assert held[1, 2][3] == 0.1 and held[4, 4][4] == 0.1  # the cap


def test_a_full_entry_forgets_its_smallest() -> None:
    corpus = Counts.of([[0, 0, t] for t in (1, 1, 1, 2, 2, 3)], 9, keep=3)
    met, change = Table.empty(1, 64, 2, 4), jax.jit(adapt)
    for after, left in (([4], {1, 2, 3, 4}), ([5, 6], {1, 2, 5, 6})):
        grams = jnp.array([[[0, 0, token] for token in after]])
        met = change(met, corpus, grams, jnp.ones(grams.shape[:2], bool), 0.04, 3.0)
        assert (
            set(jax.jit(successors)(met, corpus, jnp.array([[[0, 0]]]))[0][0, 0].tolist()) == left
        )


def test_rounds_are_those_of_the_reference() -> None:
    """Two ragged rows of greedy decoding with adapting tables of their own."""
    model = EnumerableLM.random(2, 6, sharpness=2.0, max_positions=3)
    drafter = Adaptive(CORPUS, iterations=30, top=9, nodes=16, rollout=False, capacity=256)
    prompts = [[1, 2, 3, 1], [4]]
    history = rounds(
        Speculator(generator(model, 16), drafter, Match()), Prompt.of(prompts, width=4)
    )
    for row, prompt in enumerate(prompts):
        held, text, steps = as_map(CORPUS, 6), list(prompt), []
        while len(text) < len(prompt) + 16:
            reference.adapt(held, text)
            drafts = set()
            if len(text) > 1:
                nodes = reference.search(held, (text[-2], text[-1]), 30)
                drafts = reference.trie(held, nodes, 9, 16)
            wanted = naive.greedy(partial(next_logits, model), text, 5)
            count = max([n for n in range(1, 5) if tuple(wanted[:n]) in drafts], default=0)
            text += wanted[: count + 1]
            steps.append(count + 1)
        steps[-1] -= len(text) - len(prompt) - 16
        assert [n for n in emitted(history, row) if n] == steps
    assert max(emitted(history)) > 2


def test_a_table_is_handed_on() -> None:
    """A cycle that the corpus does not know is learned once."""
    model, prompt = MarkovLM.cycle(30), Prompt.of([[0, 1]], width=2)
    corpus = Counts.of([[5, 3, 1]], 30)

    @jax.jit
    def run(memory):
        drafter = Adaptive(corpus, memory, iterations=20, top=9, nodes=16, capacity=256)
        speculator = Speculator(generator(model, 40), drafter, Match())
        return Learning(speculator)(jax.random.key(0), prompt)

    cold = run(Table.empty(1, 256, 2, 16))
    hot = run(cold.trace.met.value)
    assert hot.usage.target_passes[0] < cold.usage.target_passes[0]


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_the_published_sampling_is_biased_and_is_caught(p: float) -> None:
    """A draft token of probability p is emitted with 2 p - p^2."""
    model = MarkovLM(jnp.log(jnp.array([[1 - p, p]] * 2)))
    drafter = Retrieval(Datastore(Corpus.of([[0, 1]], 2), 1, 1, 1, 1), 1)
    plain = generator(model, 1, Categorical())

    @jax.jit
    def run(speculator):
        return generate(speculator, jax.random.key(1), Prompt.of([[0]], width=1), 8000).tokens[:, 0]

    biased = np.asarray(run(Speculator(plain, drafter, Redraw())))
    assert rejects(biased, {1: p, 0: 1 - p})
    assert_distribution(biased, {1: 2 * p - p * p, 0: (1 - p) ** 2})
    assert_distribution(np.asarray(run(Speculator(plain, drafter, Match()))), {1: p, 0: 1 - p})


def test_bad_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="counts after 1 tokens; count with order=2"):
        Adaptive(Counts.of([[1, 2]], 6, 1))
    with pytest.raises(ValueError, match="top=1: from 2"):
        Adaptive(CORPUS, top=1)
    with pytest.raises(ValueError, match="iterations=0, length=4"):
        Adaptive(CORPUS, iterations=0, top=2)
    with pytest.raises(ValueError, match="vocabulary has 6 tokens, the target's has 30"):
        aded(generator(MarkovLM.cycle(30), 4), CORPUS)


def test_it_is_cited() -> None:
    assert "@misc{aded2024," in citation(aded(generator(MarkovLM.cycle(6), 4), CORPUS))
