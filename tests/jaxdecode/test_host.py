"""Functions of text as rewards: called for what lives and exactly as often as counted, guarded."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.search.pg_td import PlanningGuided
from algorithms.selection.best_of_n import BestOfN
from jaxdecode.autoregress import Generator, generate
from jaxdecode.decoder import decode
from jaxdecode.host import HostJudge
from jaxdecode.host_calls import Log, Tokens
from jaxdecode.logits import Identity
from jaxdecode.process_reward import StepFunction
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM
from jaxdecode.train.policy_gradient import Setting

LETTERS = "abcde"
MODEL = EnumerableLM.random(3, len(LETTERS))
PROMPTS = Prompt.of([[0, 1], [2], [3, 3, 1]])


class Spelling:
    def decode(self, ids) -> str:
        return "".join(LETTERS[i] for i in ids)


def generator(max_tokens: int = 4) -> Generator:
    return Generator(MODEL, Identity(), Categorical(), Stop.of(4), max_tokens)


def any_(value: Any) -> Any:
    """For what no type checker would let pass."""
    return value


def share(text: str) -> float:
    return text.count("b") / max(len(text), 1)


def share_of(prompt, start, tokens, length):
    inside = np.arange(tokens.shape[1]) < length[:, None]
    return ((tokens == 1) & inside).sum(axis=1) / jnp.maximum(length, 1)


SHARING = HostJudge.of(share, Spelling())  # judges of their own would be compiled anew


def of_share() -> HostJudge:
    """A judge by `share`, asked for nothing so far."""
    SHARING.host.log = Log()
    return SHARING


def test_best_of_n_is_that_of_the_same_reward_on_tokens():
    judge = of_share()
    found = jax.device_get(decode(BestOfN(generator(), judge.scorer, 4), 0, PROMPTS))
    plain = jax.device_get(decode(BestOfN(generator(), FunctionScorer(share_of), 4), 0, PROMPTS))
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    np.testing.assert_allclose(found.trace.score, plain.trace.score, rtol=1e-6)
    assert judge.log.asked == found.usage.scorer_passes.sum() == 12
    assert judge.log.failures == []


@pytest.mark.filterwarnings("ignore:the judge failed")
@pytest.mark.parametrize("batched", [False, True])
def test_an_exception_spoils_its_own_text_and_is_kept(batched):
    def strict(prompt, text):
        if "d" in text:
            raise LookupError(f"no d in {prompt}")
        return float(len(text))

    def many(prompts, texts):
        found = []
        for pair in zip(prompts, texts, strict=True):
            try:
                found.append(strict(*pair))
            except LookupError as error:
                found.append(error)
        return found

    judge = HostJudge.of(many if batched else strict, Spelling(), batched=batched)
    result = jax.device_get(decode(BestOfN(generator(), judge.scorer, 6), 1, PROMPTS))
    pool, failed = result.trace, 0
    for row, prompt in enumerate(("ab", "c", "ddb")):
        for sample in range(6):
            text = Spelling().decode(pool.tokens[row, sample, : pool.length[row, sample]])
            if "d" in text:
                failed += 1
                assert not np.isfinite(pool.score[row, sample])
                kept = [f for f in judge.log.failures if (f.prompt, f.text) == (prompt, text)]
                assert kept and kept[0].error == f"LookupError: no d in {prompt}"
            else:
                assert pool.score[row, sample] == len(text)
    assert 0 < failed == judge.log.failed < 18


@pytest.mark.parametrize("goal", [0.3, np.inf])
def test_a_search_runs_as_many_texts_as_it_counts(goal):
    """Rows end at different rounds; nothing is run for those that are done."""
    judge = of_share()
    search = PlanningGuided(MODEL, Stop.of(4), judge.evaluator, 3, 2, 12, goal=goal)
    result = jax.device_get(decode(search, 0, PROMPTS))
    assert judge.log.asked == result.usage.scorer_passes.sum() > 0
    # Beside it the same reward by a function of tokens, which is asked for all lanes and rounds.
    beside = replace(search, evaluator=StepFunction(share_of))
    plain = jax.device_get(decode(beside, 0, PROMPTS))
    np.testing.assert_array_equal(result.tokens, plain.tokens)
    np.testing.assert_array_equal(result.usage.scorer_passes, plain.usage.scorer_passes)
    alone = jax.device_get(decode(search, 0, Prompt.of([[2]], [1])))
    np.testing.assert_array_equal(alone.tokens[0], result.tokens[1])


def test_training_takes_a_function_of_text():
    judge = of_share()
    setting = Setting(generator(), judge, beta=0.1, group=2)
    rows = generate(setting.generator, jax.random.key(0), PROMPTS, setting.group)
    reward = jax.jit(setting.reward)(PROMPTS, rows)
    inside = np.arange(4) < np.asarray(rows.length)[:, None]
    wanted = ((np.asarray(rows.tokens) == 1) & inside).sum(1) / np.asarray(rows.length)
    np.testing.assert_allclose(reward, wanted, rtol=1e-6)
    assert judge.log.asked == 6


def test_ids_tokens_and_what_is_given_are_handed_over():
    seen = []

    def function(scale, id, prompt, said):
        seen.append((id, prompt))
        return float(scale) * len(said)

    judge = HostJudge.of(function, Tokens(), given=(2.0,))
    ids = replace(PROMPTS, id=np.array([7, 8, 9], np.int32))
    one = decode(BestOfN(generator(), judge.scorer, 2), 0, ids)
    other = replace(judge, given=(np.float32(3.0),))
    two = decode(BestOfN(generator(), other.scorer, 2), 0, ids)
    np.testing.assert_allclose(one.trace.score * 1.5, two.trace.score)
    assert set(seen) == {(7, (0, 1)), (8, (2,)), (9, (3, 3, 1))}


class Following(Spelling):
    """Decodes a response by what it follows."""

    def decode_pair(self, prompt, response):
        return f"<{self.decode(prompt)}", f"{len(prompt)}{self.decode(response)}"


def test_a_response_is_decoded_after_its_prompt_where_that_can_be_done():
    """The first failure is told, with the text as the function had it."""

    def function(text):
        raise LookupError(text)

    judge = HostJudge.of(function, Following())
    with pytest.warns(UserWarning, match=r"the judge failed on '3[a-e]+' \(LookupError: 3"):
        decode(BestOfN(generator(2), judge.scorer, 2), 0, Prompt.of([[3, 3, 1]]))
    assert judge.log.failed == 2 and {f.prompt for f in judge.log.failures} == {"<ddb"}


SAYING = HostJudge.of(share, Spelling())  # what the tests have it say


@pytest.mark.filterwarnings("ignore:the judge failed")
@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("high", "function gave 'high'; give a number"),
        (None, "function gave None"),
        ([1.0], r"function gave \[1.0\]"),
        (float("nan"), "function gave nan; give a finite number"),
        (10**400, "give a finite number of 32 bits"),
    ],
)
def test_what_is_no_number_is_no_reward(given, complaint):
    judge = SAYING
    judge.host.function, judge.host.log = lambda text: given, Log()
    result = decode(BestOfN(generator(2), judge.scorer, 2), 0, Prompt.of([[0]]))
    assert result.status[0] == Status.EXHAUSTED or result.status[0] == Status.INVALID
    assert judge.log.failed == 2 and re.search(complaint, judge.log.failures[0].error)


@pytest.mark.filterwarnings("ignore:the judge failed")
def test_as_many_rewards_as_texts():
    judge = HostJudge.of(lambda texts: [1.0], Spelling(), batched=True)
    decode(BestOfN(generator(2), judge.scorer, 2), 0, Prompt.of([[0]]))
    assert "1 rewards for 2 texts; give one for each" in judge.log.failures[0].error


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: HostJudge.of(any_("share"), Spelling()), "function='share' cannot be called"),
        (lambda: HostJudge.of(share, any_(None)), "tokenizer=None has no `decode`"),
        (lambda: HostJudge.of(lambda: 1.0, Spelling()), "must take the response's text"),
        (lambda: HostJudge.of(lambda a, b, c, d: 1.0, Spelling()), "functools.partial"),
        (lambda: HostJudge.of(lambda a, *, b: 1.0, Spelling()), "functools.partial"),
        (lambda: FunctionScorer(any_(share)), r"function=share.*takes 1 .*HostJudge"),
        (lambda: StepFunction(any_(share)), r"function=share.*takes 1 .*HostJudge"),
        (lambda: FunctionScorer(any_(3)), "function=3 cannot be called"),
        (lambda: BestOfN(generator(), any_(share), 4), r"scorer=<function share.*HostJudge.of"),
        (
            lambda: PlanningGuided(MODEL, Stop.of(4), any_(share), 3),
            r"evaluator=<function share.*HostJudge.of",
        ),
        (
            lambda: PlanningGuided(MODEL, Stop.of(4), any_(HostJudge.of(share, Spelling())), 3),
            r"evaluator=.*has no `init`.*evaluator",
        ),
        (lambda: Setting(generator(), any_("share"), 0.1), "reward='share'"),
    ],
)
def test_misuse_is_named_when_it_is_built(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_wrong_shape_is_named_when_it_is_traced():
    def wide(prompt, start, tokens, length):
        return tokens[:, :1].astype(np.float32)

    with pytest.raises(ValueError, match=r"function gave float32\[2, 1\] for 2 rows"):
        decode(BestOfN(generator(2), FunctionScorer(wide), 2), 0, Prompt.of([[0]]))
    bound = functools.partial(HostJudge.of, tokenizer=Spelling())
    assert bound(len).host.texts == 1 and bound(lambda p, t: 1.0).host.texts == 2
