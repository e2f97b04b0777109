"""A* pops in the order of its costs, and returns what it should where it cannot go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from algorithms.search.a_star_decoding import AStar
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM

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


def pops(result) -> list[str]:
    """The nodes in the order in which they were popped."""
    ledger, order = result.trace.ledger, []
    for node in np.asarray(ledger.popped[0]):
        if node >= 0:
            order.append(node)
    return order


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
