"""Planning and its rival against plain Python: every rollout, visit, value, prior and cache."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.pg_td import PlanningGuided
from algorithms.search.smcg_td import SequentialMonteCarlo
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import TopK
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, next_probs
from tests.references.pg_td import Node, Rollout, Text, Writer, plan

PROMPTS = [[3, 1], [2], [0, 2, 1]]
END, LONGEST, BRANCH, ROLLOUTS = 4, 5, 3, 40


def worth(text: Text) -> float:
    """Something that no model would think of, in [0, 1] and with ties."""
    return sum((7 * token + 3 * place) % 5 for place, token in enumerate(text)) % 7 / 7


def rewards(prompt, prompt_length, tokens, length):
    """The same of rows, on the host."""
    shape = jax.ShapeDtypeStruct(length.shape, jnp.float32)
    return jax.pure_callback(on_host, shape, tokens, length, vmap_method="sequential")


def on_host(tokens, length) -> np.ndarray:
    rows = zip(tokens.tolist(), length.tolist(), strict=True)
    return np.array([worth(tuple(row[:count])) for row, count in rows], np.float32)


@pytest.fixture(scope="module")
def planner() -> PlanningGuided:
    model = EnumerableLM.random(3, 5, 12, sharpness=1.5)
    stop, judged = Stop.of(END), StepFunction(rewards)
    return PlanningGuided(model, stop, judged, LONGEST, BRANCH, ROLLOUTS)


def spelled(result, row: int) -> list[Text]:
    """What each node of a row spells."""
    trace = result.trace
    rows = zip(trace.tokens[row], trace.length[row], strict=True)
    return [tuple(tokens[:length].tolist()) for tokens, length in rows]


def by_text(result, row: int) -> tuple[list[Rollout], dict[Text, Node]]:
    """A row's rollouts and tree, as the reference has them."""
    tree, texts = result.trace.note, spelled(result, row)
    nodes: dict[Text, Node] = {}
    for node in range(1, result.trace.nodes[row]):
        text = texts[node]
        over = len(text) == LONGEST or bool(text and text[-1] == END)
        tokens = [] if over else tree.edges.actions[row, node].tolist()
        nodes[text] = Node(tokens, [] if over else tree.edges.prior[row, node].tolist())
        nodes[text].visits = int(tree.visits[row, node])
        for edge, token in enumerate(tokens):
            count = int(tree.count[row, node, edge])
            nodes[text].returns[token] = [float(tree.value[row, node, edge])] * count
    rollouts = []
    for leaf in tree.trail[row]:
        if leaf >= 0:
            whole = tuple(tree.text.tokens[row, leaf][: tree.text.length[row, leaf]].tolist())
            rollouts.append(Rollout(texts[leaf], whole, worth(whole), 0))
    return rollouts, nodes


def writer_of(decoder: PlanningGuided, prompt: list[int], reuse=True, remember=True) -> Writer:
    model = decoder.model
    assert isinstance(model, EnumerableLM)

    def law(text: Text) -> np.ndarray:
        return next_probs(model, [*prompt, *text])

    return Writer(law, LONGEST, frozenset({END}), BRANCH, reuse, remember)


def matches(decoder: PlanningGuided, result, reuse=True, remember=True, **rules) -> None:
    for row, prompt in enumerate(PROMPTS):
        writer = writer_of(decoder, prompt, reuse, remember)
        done, tree = plan(writer, worth, ROLLOUTS, **rules)
        rollouts, nodes = by_text(result, row)
        assert [(r.leaf, r.text) for r in rollouts] == [(r.leaf, r.text) for r in done]
        assert nodes.keys() == tree.keys()
        for text, expected in tree.items():
            found = nodes[text]
            assert found.tokens == expected.tokens and found.visits == expected.visits
            np.testing.assert_allclose(found.prior, expected.prior, rtol=1e-4)
            for token, returns in expected.returns.items():
                assert len(found.returns[token]) == len(returns)
                best = max(returns, default=0.0)
                np.testing.assert_allclose(max(found.returns[token], default=0.0), best, rtol=1e-6)
        assert result.trace.note.generations[row] == writer.generations
        assert result.trace.note.looked[row] == writer.looked
        best = max(done, key=lambda rollout: rollout.reward)
        assert tuple(result.tokens[row][: result.length[row]].tolist()) == best.text


@pytest.mark.parametrize("rule", ["p-ucb", "p-uct", "uct"])
def test_every_rollout_is_the_references(planner, rule):
    decoder = replace(planner, rule=rule)
    matches(decoder, jax.device_get(decode(decoder, 0, Prompt.of(PROMPTS))), rule=rule)


def test_the_caches_save_what_they_say_and_change_nothing(planner):
    """Tokens that are run fall from none over the sequence cache to both."""
    tokens = {}
    for caches in ((False, False), (True, False), (True, True)):
        decoder = replace(planner, reuse=caches[0], remember=caches[1])
        result = jax.device_get(decode(decoder, 0, Prompt.of(PROMPTS)))
        matches(decoder, result, *caches)
        tokens[caches] = result.usage.target_tokens.sum()
    assert tokens[True, True] < tokens[True, False] < tokens[False, False]


def test_a_bound_and_a_goal_end_the_search(planner):
    prompt = Prompt.of(PROMPTS)
    result = jax.device_get(decode(replace(planner, generations=4, goal=0.8), 0, prompt))
    matches(planner, result, most=4, goal=0.8)


def test_a_full_arena_returns_the_best_so_far(planner):
    small = replace(planner, nodes=5)
    result = jax.device_get(decode(small, 0, Prompt.of(PROMPTS)))
    assert (result.status == Status.CAPACITY).all() and (result.trace.nodes == 5).all()
    reward = np.where(np.arange(5) > 0, result.trace.reward, -1).max(axis=1)
    found = on_host(result.tokens, result.length)
    np.testing.assert_allclose(found, reward, rtol=1e-6)
    assert (found > 0).any()


def test_drawn_completions_share_nothing_and_keep_to_the_likeliest(planner):
    drawn = replace(planner, sampler=Categorical(), reuse=False)
    one, other = (jax.device_get(decode(drawn, seed, Prompt.of(PROMPTS))) for seed in (0, 1))
    texts = [result.trace.note.text.tokens for result in (one, other)]
    assert (texts[0] != texts[1]).any()
    # Every node that can be gone on from is completed anew; only the root is not completed.
    np.testing.assert_array_equal(one.trace.note.generations, one.trace.note.looked - 1)
    found = [on_host(result.tokens, result.length) for result in (one, other)]
    for result, best in zip((one, other), found, strict=True):
        np.testing.assert_allclose(best, result.trace.reward.max(axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match="pass reuse=False"):
        replace(planner, sampler=Categorical())
    with pytest.raises(ValueError, match="use one of p-ucb"):
        replace(planner, rule="mean")


def test_a_population_looks_ahead_and_shares_completions(planner):
    """Every prefix, its greedy end, what was new of them, and weights that follow the rewards."""
    generator = Generator(planner.model, TopK(BRANCH), Categorical(), planner.stop, LONGEST)
    decoder = SequentialMonteCarlo(generator, planner.evaluator, particles=4)
    result = jax.device_get(decode(decoder, 0, Prompt.of(PROMPTS)))
    note, count = result.trace.note, result.trace.nodes
    for row, prompt in enumerate(PROMPTS):
        writer = writer_of(planner, prompt)
        texts = [
            tuple(tokens[:length].tolist())
            for tokens, length in zip(note.text.tokens[row], note.text.length[row], strict=True)
        ]
        prefixes = spelled(result, row)
        for node in range(1, count[row]):
            assert writer.complete(prefixes[node]) == texts[node]
            likeliest = writer.node(prefixes[node][:-1]).tokens
            assert prefixes[node][-1] in likeliest
            np.testing.assert_allclose(result.trace.reward[row, node], worth(texts[node]), 1e-6)
        assert note.generations[row] == writer.generations
        best = max((texts[node] for node in range(1, count[row])), key=worth)
        assert tuple(result.tokens[row][: result.length[row]].tolist()) == best
