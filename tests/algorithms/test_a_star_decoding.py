"""A* pops in the order of its costs, and returns what it should where it cannot go on."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from algorithms.search.a_star_decoding import AStar
from algorithms.selection.best_of_n import BestOfN
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_logits

MODEL = EnumerableLM.random(0, 4)
PROMPT = Prompt.of([[1, 2]], width=2)
ORDER = {
    "A": 0.9, "B": 0.8, "Aa": 0.5, "Ab": 0.6, "Ba": 0.85, "Bb": 0.7,
    "Aaa": 0.55, "Aab": 0.4, "Aba": 0.65, "Abb": 0.3,
    "Baa": 0.95, "Bab": 0.6, "Bba": 0.75, "Bbb": 0.5,
}  # fmt: skip
CHAINS = {"A": 0.9, "Aa": 0.7, "Aaa": 0.95, "B": 0.65, "Ba": 0.66, "Baa": 0.67}


@struct.dataclass
class Sides:
    """Two lanes a row: the first draws token 1, the second token 2."""

    def __call__(self, keys, logits):
        return jnp.arange(logits.shape[0], dtype=jnp.int32) % 2 + 1

    def distribution(self, logits):
        return jax.nn.softmax(logits)


@struct.dataclass
class After:
    """Ends a response at three tokens."""

    eos: jax.Array = struct.field(default_factory=lambda: jnp.zeros((0,), jnp.int32))

    def __call__(self, tokens, length):
        return length >= 3


def spelled(tokens) -> str:
    """A path in the words of the trees: B, Ba, Baa."""
    return "".join("ab"[token - 1] for token in tokens).capitalize()


def tree(rewards: Mapping[str, float]) -> StepFunction:
    """The rewards of a tree whose nodes are two tokens wide; NaN where it has none."""
    table = np.full((3, 3, 3), np.nan, np.float32)
    for name, value in rewards.items():
        at = [" ab".index(letter) for letter in name.lower()]
        table[tuple(at + [0] * (3 - len(at)))] = value
    values = jnp.asarray(table)
    return StepFunction(Partial(entry, values))


def entry(values, prompt, prompt_length, tokens, length):
    return values[tuple(tokens[:, :3].T)]


@pytest.fixture(scope="module")
def search() -> AStar:
    generator = Generator(MODEL, Identity(), Sides(), After(), max_tokens=4)
    steps = StepSampler(generator, Stop.of(3), width=1, depth=4)
    return AStar(steps, tree(ORDER), children=2, expansions=8)


def pops(result) -> list[int]:
    """The nodes in the order in which they were popped."""
    return [int(node) for node in result.trace.ledger.popped[0] if node >= 0]


def run(search: AStar):
    result = jax.device_get(decode(search, 0, PROMPT))
    return result, spelled(result.tokens[0, : result.length[0]])


def test_pops_follow_the_costs_over_the_whole_frontier(search):
    """Known answer: root, A, B, Ba, then the goal Ba1, after 8 rewards of 14."""
    result, answer = run(search)
    assert answer == "Baa" and result.status[0] == Status.EOS
    ledger = result.trace.ledger
    order = pops(result)
    # Nodes are numbered as they were made: A, B; Aa, Ab; Ba, Bb; Baa, Bab.
    assert order == [0, 1, 2, 5, 7]
    f = ledger.cost[0] + 1 - ledger.score[0]
    np.testing.assert_allclose(f[order[1:]], [0.1, 0.2, 0.15, 0.05], atol=1e-6)
    assert result.usage.scorer_passes[0] == result.trace.nodes[0] - 1 == 8
    assert result.usage.emitted[0] == 8
    np.testing.assert_allclose(result.trace.reward[0, 1:9], [ORDER[n] for n in
        ("A", "B", "Aa", "Ab", "Ba", "Bb", "Baa", "Bab")], rtol=1e-6)  # fmt: skip


def test_without_a_frontier_it_never_turns_back(search):
    _, answer = run(replace(search, frontier=False))
    assert answer == "Aba"


def test_falls_are_remembered_and_best_first_forgets_them(search):
    search = replace(search, evaluator=tree(CHAINS))
    result, answer = run(search)
    assert answer == "Baa"
    f = result.trace.ledger.cost[0] + 1 - result.trace.ledger.score[0]
    np.testing.assert_allclose(f[pops(result)[1:]], [0.10, 0.35, 0.34, 0.33], atol=1e-6)
    assert result.usage.invalid[0] == 3  # the brothers whose reward is NaN
    _, answer = run(replace(search, costs=False))
    assert answer == "Aaa"


def reference(rewards: Mapping[str, float]) -> tuple[list[str], str]:
    """A* over the tree as one would write it with a heap: pops in order, and the goal."""
    frontier = [(1.0, 0.0, 0, 0, "")]
    cost, order, made = {"": 0.0}, [], 0
    while True:
        name = heapq.heappop(frontier)[-1]
        order.append(name)
        if len(name) == 3:
            return order, name
        for letter in "ab":
            child = name + letter
            made += 1
            r, before = rewards[child], rewards[name] if name else 0.0
            cost[child] = cost[name] + max(0.0, before - r)
            entry = (cost[child] + 1 - r, -r, -len(child), made, child)
            heapq.heappush(frontier, entry)


def test_random_trees_are_searched_as_a_heap_would(search):
    """Rewards in quarters, so that ties are many and every key of the order decides some."""
    names = ["".join(t) for n in (1, 2, 3) for t in itertools.product("ab", repeat=n)]
    rng, lengths = np.random.default_rng(0), set()
    for _ in range(25):
        rewards = dict(zip(names, rng.integers(0, 5, len(names)) / 4, strict=True))
        order, goal = reference(rewards)
        result, answer = run(replace(search, evaluator=tree(rewards)))
        assert answer == goal.capitalize()
        ledger, tokens = result.trace.ledger, {0: ""}
        # Nodes are made in the order of expansion, a before b.
        for place, name in enumerate(n for n in order if len(n) < 3):
            tokens |= {2 * place + 1: name + "a", 2 * place + 2: name + "b"}
        assert [tokens[node] for node in pops(result)] == order
        assert (ledger.cost >= 0).all()
        lengths.add(len(order))
    assert len(lengths) > 2  # some turn back more than others


def test_a_spent_budget_completes_the_most_promising_greedily(search):
    """Two tokens are drawn, then A is gone on with by the model's own first choices."""
    result, answer = run(replace(search, tokens=2))
    assert answer[0] == "A" and result.status[0] == Status.EOS
    assert result.usage.emitted[0] == 4 and pops(result) == [0]
    output = result.tokens[0, :3].tolist()
    for at in (1, 2):
        assert output[at] == np.argmax(next_logits(MODEL, [1, 2, *output[:at]]))


def test_one_child_is_ancestral_sampling():
    """The same draws and tokens spent, whatever the rewards; out of range they are counted."""
    generator = Generator(MODEL, Identity(), Categorical(), Stop.of(0), 6)
    steps = StepSampler(generator, Stop.of(3), width=2, depth=6)
    same = StepFunction(lambda prompt, n, tokens, length: jnp.full(length.shape, 1.5))
    prompt = Prompt.of([[1, 2], [3]] * 4, width=2)
    found = jax.device_get(decode(AStar(steps, same, 1, 8), 3, prompt))
    wanted = jax.device_get(decode(BestOfN(generator, FunctionScorer(level), 1), 3, prompt))
    for name in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert len(set(found.length.tolist())) > 1
    np.testing.assert_array_equal(found.usage.emitted, wanted.usage.emitted)
    np.testing.assert_array_equal(found.trace.outside, found.usage.scorer_passes)
    assert (found.trace.capped > 0).any()


def level(prompt, prompt_length, tokens, length):
    return jnp.zeros(length.shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"children": 0}, "children=0"),
        ({"expansions": 0}, "expansions=0"),
        ({"aggregation": "sum"}, "aggregation='sum'"),
        ({"root": 1.5}, "root=1.5"),
        ({"tokens": 0}, "tokens=0"),
    ],
)
def test_what_cannot_be_is_refused(search, changes: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        replace(search, **changes)


def test_an_arena_too_small_gives_what_it_has(search):
    """Room for two rounds: the best complete or longest of what was made, status CAPACITY."""
    result, answer = run(replace(search, slots=4))
    assert result.status[0] == Status.CAPACITY and result.trace.full[0]
    assert answer == "A" and result.trace.nodes[0] == 5
