"""Planning by Monte-Carlo search: the statistics of a small tree, rollout by rollout."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from algorithms.search.pg_td import PlanningGuided
from algorithms.search.tree import TOP, Selection
from jaxdecode.decoder import decode
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs, sequence_logprob

LAW = {3: (0.6, 0.3, 0.1), 0: (0.5, 0.4, 0.1), 1: (0.3, 0.6, 0.1), 2: (0.2, 0.2, 0.6)}
PROMPT = Prompt.of([[3]], width=1)
# Leaf, completed text and LM call of every rollout, and the scores at the root after it.
KNOWN = [
    ((0,), (0, 0, 0), 1 / 3, True, (1.5162, 1.1829)),
    ((0, 0), (0, 0, 0), 1 / 3, False, (1.3434, 1.5151)),
    ((1,), (1, 1, 1), 2 / 3, True, (1.4860, 1.5312)),
    ((1, 1), (1, 1, 1), 2 / 3, False, (1.5935, 1.2968)),
    ((0, 1), (0, 1, 1), 1 / 3, True, (1.3441, 1.3405)),
    ((0, 0, 0), (0, 0, 0), 1 / 3, False, (1.1866, 1.3778)),
    ((1, 1, 1), (1, 1, 1), 2 / 3, False, (1.2258, 1.2245)),
    ((0, 1, 1), (0, 1, 1), 1 / 3, False, (1.1063, 1.2464)),
    ((1, 1, 1), (1, 1, 1), 2 / 3, False, (1.1328, 1.1464)),
    ((1, 0), (1, 0, 0), 2 / 3, True, (1.1572, 1.0786)),
]


def bigrams() -> EnumerableLM:
    """A model that sees its last token alone: later positions drown the earlier ones."""
    code = 2.0 * np.eye(4) - 1
    keys = code[None] * 100.0 ** np.arange(1, 7)[:, None, None]
    logits = np.array([[*np.log(LAW[token]), -40.0] for token in range(4)])
    head = np.linalg.solve(code, logits)
    parts = (keys, np.zeros_like(keys), head, np.zeros(4))
    return EnumerableLM(*(jnp.asarray(part, jnp.float32) for part in parts))


def near(prompt, prompt_length, tokens, length):
    """The share of places where the text is 1, 0, 1."""
    return jnp.mean(tokens[:, :3] == jnp.array([1, 0, 1]), axis=1)


@pytest.fixture(scope="module")
def planner() -> PlanningGuided:
    model = bigrams()
    for token, law in LAW.items():
        np.testing.assert_allclose(next_probs(model, [3, token])[:3], law, atol=1e-4)
    reward = StepFunction(near)
    return PlanningGuided(model, Stop.of(()), reward, max_tokens=3, branch=2, rollouts=10)


def follow(tree, rewards, reuse: bool):
    """Replays a row's rollouts on statistics of its own, and compares what it can."""
    selection = Selection("p-ucb", 4.0, 10.0)
    visits, counts, values, written = 1, np.zeros(2), np.zeros(2), 0
    for rollout, (leaf, text, reward, asks, scores) in enumerate(KNOWN):
        node = tree.trail[0, rollout]
        assert tuple(tree.text.tokens[0, node]) == text
        np.testing.assert_allclose(rewards[0, node], reward, rtol=1e-5)
        edge = leaf[0]
        visits, counts[edge] = visits + 1, counts[edge] + 1
        values[edge] = max(values[edge], reward)
        root = replace(
            tree,
            visits=np.full_like(tree.visits, visits),
            count=np.broadcast_to(counts, tree.count.shape),
            value=np.broadcast_to(values, tree.value.shape),
        )
        found = selection.scores(root, jnp.array([TOP]))[0]
        np.testing.assert_allclose(found, scores, atol=2e-4)
        written += asks if reuse else len(leaf) < 3
    assert tree.visits[0, TOP] == visits == 11 and (tree.count[0, TOP] == counts).all()
    np.testing.assert_allclose(tree.value[0, TOP], values, rtol=1e-6)
    return written


def test_known_rollouts(planner):
    """Ten rollouts, four completions, and the text of the largest reward."""
    result = jax.device_get(decode(planner, 0, PROMPT))
    tree, rewards, nodes = result.trace.note, result.trace.reward, result.trace.nodes
    assert follow(tree, rewards, True) == tree.generations[0] == 4
    assert result.tokens[0].tolist() == [1, 1, 1] and result.status[0] == Status.LENGTH
    np.testing.assert_allclose(
        result.logprob[0], sequence_logprob(planner.model, [3], [1, 1, 1]), rtol=1e-4
    )
    for node in range(2, nodes[0]):  # N(s) = 1 + its own evaluation + what went on below
        below = tree.count[0, node].sum()
        again = np.sum(tree.trail[0] == node)
        assert tree.visits[0, node] == 1 + again + below
    np.testing.assert_allclose(tree.edges.prior[0, TOP], [2 / 3, 1 / 3], atol=1e-5)


def test_the_sequence_cache_changes_nothing_but_calls(planner):
    result = jax.device_get(decode(replace(planner, reuse=False), 0, PROMPT))
    tree, rewards = result.trace.note, result.trace.reward
    assert follow(tree, rewards, False) == tree.generations[0] == 6
    assert result.tokens[0].tolist() == [1, 1, 1]


def test_a_full_search_finds_the_optimum_and_stops_when_told(planner):
    """All edges and rollouts enough for every text; then a bound on completions."""
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.random((4, 4, 4)), jnp.float32)

    def entry(table, prompt, prompt_length, tokens, length):
        return table[tuple(tokens[:, :3].T)]

    search = replace(
        planner, branch=3, rollouts=120, weight=40.0, evaluator=StepFunction(Partial(entry, table))
    )
    result = jax.device_get(decode(search, 0, PROMPT))
    best = np.unravel_index(np.asarray(table[:3, :3, :3]).argmax(), (3, 3, 3))
    assert tuple(result.tokens[0]) == best
    few = jax.device_get(decode(replace(search, generations=2), 0, PROMPT))
    assert few.trace.note.generations[0] == 2


def worthless(prompt, prompt_length, tokens, length):
    """No number for the empty text, and much less than nothing for every other."""
    return jnp.where(length == 0, jnp.nan, -1.0 - tokens[:, 0])


def empty_is_best(prompt, prompt_length, tokens, length):
    return jnp.where(length == 0, 1.0, -1.0)


@pytest.mark.parametrize("reward", [worthless, empty_is_best])
def test_the_empty_text_is_no_candidate(planner, reward):
    """What a judge says of it neither ends a search, nor spoils one, nor is asked for."""
    search = replace(planner, evaluator=StepFunction(reward), goal=0.5, rollouts=4)
    result = jax.device_get(decode(search, 0, PROMPT))
    assert result.length[0] == 3 and result.status[0] == Status.LENGTH
    assert result.usage.invalid[0] == 0 and result.trace.nodes[0] == 6
    assert result.usage.scorer_passes[0] == 4  # one for every completed text


@pytest.mark.parametrize("name", ["max_tokens", "branch", "rollouts"])
def test_what_cannot_be_is_refused(planner, name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        replace(planner, **{name: 0})
    with pytest.raises(ValueError, match="branch=9 exceeds the vocabulary of 4"):
        decode(replace(planner, branch=9), 0, PROMPT)
