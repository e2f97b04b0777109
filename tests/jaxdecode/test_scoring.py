"""Scorers on rows under way: advanced in stages, and partly gathered away in between."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, gather
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.scoring import FunctionScorer, LikelihoodScorer, RewardScorer, Scorer, Spent
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, sequence_logprob
from jaxdecode.types import Array, Float, Int
from tests import samples
from tests.samples import LONGEST, MAX_TOKENS, PROMPTS

STAGES = (5, 8, 8, LONGEST)  # the third has nothing new
DRAWN, KEPT = 4, np.array([[3, 1], [0, 2], [2, 1]])
SUFFIX = [5, 0]


@struct.dataclass
class Judge:
    """A reward model that is an enumerable model; the reward is its third logit."""

    inner: EnumerableLM

    @property
    def cost(self) -> ModelCost:
        return self.inner.cost

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return self.inner.init_cache(batch, capacity)

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        return self.inner(tokens, cache, view)

    def reward(self, outputs: Float[Array, "... C"]) -> Float[Array, "..."]:
        return outputs[..., 2]


def judge() -> Judge:
    return Judge(EnumerableLM.random(8, 6, sharpness=2.0))


def digest(prompt, prompt_length, tokens, length):
    """A number that tells prompts and responses apart."""
    asked = jnp.where(jnp.arange(prompt.shape[1]) < prompt_length[:, None], prompt, 0)
    return 100.0 * jnp.sum(asked, axis=1) + jnp.sum(tokens, axis=1) + 0.125 * length


def scorers() -> dict[str, Scorer]:
    return {
        "reward": RewardScorer(judge()),
        "closed": RewardScorer(judge(), jnp.array(SUFFIX)),
        "function": FunctionScorer(digest),
        "response": LikelihoodScorer(),
        "text": LikelihoodScorer(samples.model()),
    }


class Scored(NamedTuple):
    """The rows at the end of a stage, and what each scorer made of them."""

    rows: Rows
    scores: dict[str, Array]
    spent: dict[str, Spent]


@jax.jit
def run(generator: Generator, scorers: dict[str, Scorer], key: Array, prompt: Prompt, kept: Array):
    """What was spent at the start, and every stage; after the first, `kept` rows go on."""
    rows = generator.start(key, prompt, DRAWN, LONGEST)
    begun = {name: scorer.init(prompt, DRAWN) for name, scorer in scorers.items()}
    states: dict[str, Any] = {name: state for name, (state, _) in begun.items()}
    stages = []
    for index, until in enumerate(STAGES):
        rows = generator.advance(rows, jnp.full_like(rows.length, until))
        scores, spent = {}, {}
        for name, scorer in scorers.items():
            window = min(until - ([0, *STAGES][index]), MAX_TOKENS)
            scores[name], states[name], spent[name] = scorer.score(
                states[name], prompt, rows, window
            )
        stages.append(Scored(rows, scores, spent))
        if index == 0:
            rows, states = gather((rows, states), kept)
    return {name: spent for name, (_, spent) in begun.items()}, stages


@functools.cache
def scored() -> tuple[dict[str, Spent], list[Scored]]:
    arguments = samples.generator(), scorers(), jax.random.key(2), samples.prompts()
    return jax.device_get(run(*arguments, jnp.asarray(KEPT)))


def texts(stage: Scored) -> list[tuple[list[int], list[int]]]:
    """(prompt, response) of every row."""
    lengths = stage.rows.length
    each = len(lengths) // len(PROMPTS)
    return [
        (PROMPTS[row // each], stage.rows.tokens[row, :length].tolist())
        for row, length in enumerate(lengths)
    ]


def assert_scores(name: str, expected) -> None:
    for stage in scored()[1]:
        wanted = [expected(prompt, response) for prompt, response in texts(stage)]
        np.testing.assert_allclose(stage.scores[name], wanted, 1e-4, 1e-4)


def test_rows_are_varied() -> None:
    """Some end in every stage but the idle one, and others go on."""
    running = [stage.rows.running.sum() for stage in scored()[1]]
    assert len(PROMPTS) * DRAWN > running[0] > running[1] == running[2] > running[3] == 0


def test_a_reward_read_bit_by_bit_is_that_of_the_whole_text() -> None:
    assert_scores("reward", lambda p, r: next_logits(judge().inner, p + r)[2])


def test_a_suffix_is_read_and_forgotten() -> None:
    """After every prefix anew: the next one is read as if there had been none."""
    assert_scores("closed", lambda p, r: next_logits(judge().inner, p + r + SUFFIX)[2])


def test_a_function_sees_its_own_prompt_and_the_response() -> None:
    assert_scores("function", lambda p, r: 100.0 * sum(p) + sum(r) + 0.125 * len(r))


def test_likelihood_of_the_response() -> None:
    """Minus the perplexity, exp of the mean negative log-probability."""

    def expected(prompt, response):
        logprob = sequence_logprob(samples.model(), prompt, response)
        return -np.exp(-logprob / len(response))

    assert_scores("response", expected)


def test_likelihood_of_prompt_and_response() -> None:
    """The first token is given: nothing predicts it."""

    def expected(prompt, response):
        text = prompt + response
        logprob = sequence_logprob(samples.model(), text[:1], text[1:])
        return -np.exp(-logprob / (len(text) - 1))

    assert_scores("text", expected)
    scores = scored()[1][-1].scores
    assert (scores["text"] < -1).all() and (scores["response"] < -1).all()
    assert np.abs(scores["text"] - scores["response"]).max() > 0.1


def flops(cost: ModelCost, seen: int, tokens: int) -> float:
    """Token i of them attends to `seen` + i + 1 keys."""
    return sum(2 * cost.parameters + cost.attention * (seen + i + 1) for i in range(tokens))


@pytest.mark.parametrize(("name", "closing"), [("reward", 0), ("closed", 2), ("text", 0)])
def test_every_token_is_read_and_charged_once(name, closing) -> None:
    begun, stages = scored()
    model = samples.model() if name == "text" else judge()
    cost = model.cost
    spent = begun[name]
    for row in range(len(PROMPTS) * DRAWN):
        # The prompt is shared; a likelihood has no use for what follows its last token.
        count = len(PROMPTS[row // DRAWN]) - (name == "text") if row % DRAWN == 0 else 0
        assert (spent.tokens[row], spent.passes[row]) == (count, count > 0)
        assert spent.flops[row] == flops(cost, 0, count)
    before = [0] * len(PROMPTS) * DRAWN
    for index, stage in enumerate(stages):
        for row, (prompt, response) in enumerate(texts(stage)):
            fresh = 0 if name == "text" else len(response) - before[row]
            count = fresh + closing if fresh else 0
            spent = jax.tree.map(lambda x, row=row: x[row], stage.spent[name])
            assert (spent.tokens, spent.passes) == (count, count > 0)
            assert spent.flops == flops(cost, len(prompt) + before[row], count)
        before = stage.rows.length.tolist()
        if index == 0:
            before = [before[b * DRAWN + k] for b, ks in enumerate(KEPT) for k in ks]


@pytest.mark.parametrize("name", ["function", "response"])
def test_what_runs_no_model_costs_nothing(name) -> None:
    begun, stages = scored()
    for spent in (begun[name], *(stage.spent[name] for stage in stages)):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(spent))


def test_prompts_of_one_token_have_no_likelihood_of_their_own() -> None:
    state, spent = LikelihoodScorer(samples.model()).init(Prompt.of([[3]], width=1), 2)
    assert state.tolist() == [0, 0] and spent.tokens.tolist() == [0, 0]
