"""Speculative rejection against its reference, its schedules, its laws and its promises."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from algorithms.selection.best_of_n import BestOfN
from algorithms.selection.speculative_rejection import (
    SpeculativeRejection,
    first_width,
    kept,
    schedule,
    tokens_that_fit,
)
from jaxdecode import population
from jaxdecode.decoder import decode
from jaxdecode.population import Stage
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.scoring import FunctionScorer, RewardScorer
from models.presets import small
from models.rewards import RewardModel
from models.transformer import Transformer
from tests import samples
from tests.algorithms import naive
from tests.algorithms.naive import Stream
from tests.samples import LONGEST, PROMPTS, Table

N = 16
SEEDS = range(4)
KINDS = ("distinct", "ties", "oracle", "faulty", "nothing")
# One compiled program each.
CASES: dict[str, dict[str, Any]] = {
    "no rejection": {"alpha": 0.0, "budget": N * LONGEST},
    "as in the code": {"alpha": 0.5, "budget": 6 * N},
    "as published": {"alpha": 0.5, "budget": 6 * N, "rule": "quantile", "ranked": False},
    "gentle": {"alpha": 0.3, "budget": 96, "width": 8, "rule": "quantile"},
    "dead end": {"alpha": 0.9, "budget": 24, "width": 4},
}


@functools.cache
def decoder(case: str) -> SpeculativeRejection:
    settings: dict[str, Any] = {"width": N} | CASES[case]
    table = jnp.zeros((len(PROMPTS), N, samples.MAX_TOKENS + 1))
    return SpeculativeRejection(samples.generator(), Table(table), **settings)


def reject(case: str, kind: str, seed: int, endless: bool = False) -> Result:
    table = Table(jnp.asarray(samples.worth(kind, seed, N)))
    run = replace(decoder(case), scorer=table, generator=samples.generator(endless))
    return jax.device_get(decode(run, seed, samples.prompts()))


@functools.cache
def best_of_n(kind: str, seed: int) -> Result:
    table = Table(jnp.asarray(samples.worth(kind, seed, N)))
    return jax.device_get(decode(BestOfN(samples.generator(), table, N), seed, samples.prompts()))


def streams(kind: str, seed: int, row: int) -> list[Stream]:
    """The samples of one prompt, run to their ends, and what their prefixes are worth."""
    pool, table = best_of_n("distinct", seed).trace, samples.worth(kind, seed, N)
    return [
        Stream(pool.tokens[row, k, :length].tolist(), table[row, k])
        for k, length in enumerate(pool.length[row])
    ]


@pytest.mark.parametrize("case", CASES)
def test_it_does_what_the_reference_does(case) -> None:
    """Token for token, cut for cut, count for count."""
    method = decoder(case)
    for kind, seed in itertools.product(KINDS, SEEDS):
        result, pool = reject(case, kind, seed), best_of_n("distinct", seed).trace
        for row, prompt in enumerate(PROMPTS):
            given = streams(kind, seed, row)[: method.width]
            answer = naive.speculative_rejection(
                given, len(prompt), method.budget, method.alpha, LONGEST, method.rule, method.ranked
            )
            assert result.trace.sample[row] == answer.sample
            assert result.length[row] == answer.length
            if answer.sample < 0:
                assert result.status[row] == Status.INVALID
                assert result.trace.score[row] == -np.inf
            else:
                tokens = given[answer.sample].tokens[: answer.length]
                assert result.tokens[row, : answer.length].tolist() == tokens
                assert result.trace.score[row] == answer.score
                assert result.status[row] == (
                    pool.status[row, answer.sample] if answer.ended else Status.BUDGET
                )
            if answer.ended:
                logprob = pool.logprob[row, answer.sample]
                np.testing.assert_allclose(result.logprob[row], logprob, rtol=1e-6)
            assert result.usage.emitted[row] == answer.decoded
            assert result.usage.invalid[row] == answer.invalid
            for index, cut in enumerate(result.trace.cuts):
                place = {k: i for i, k in enumerate(cut.sample[row].tolist())}
                at = [place[k] for k in answer.alive[index]]
                assert cut.length[row][at].tolist() == answer.lengths[index]
                assert cut.score[row][at].tolist() == answer.scores[index]
            if method.ranked:  # else places are left over, and their slots stay occupied
                assert [cut.sample[row].tolist() for cut in result.trace.cuts] == answer.alive
                assert result.usage.peak_cache_tokens[row] == answer.peak


def test_the_cases_show_what_they_are_there_for() -> None:
    """Responses end early, late and in every stage; cuts change answers; faults happen."""
    ended = {Status(s) for case in CASES for k in KINDS for s in reject(case, k, 0).status}
    assert ended >= {Status.EOS, Status.BUDGET, Status.INVALID}
    assert Status.LENGTH in reject("as in the code", "distinct", 0, endless=True).status
    running = [cut.running for cut in reject("as in the code", "distinct", 0).trace.cuts]
    assert running[0].max() < N and running[1].max() > 0
    results = {case: [reject(case, "distinct", seed) for seed in SEEDS] for case in CASES}
    answers = {case: str([r.trace.sample.tolist() for r in results[case]]) for case in CASES}
    costs = {case: str([r.usage.emitted.tolist() for r in results[case]]) for case in CASES}
    assert len(set(answers.values())) >= 4 and len(set(costs.values())) == len(CASES)


def test_without_rejection_it_is_best_of_n() -> None:
    for kind, seed in itertools.product(KINDS, SEEDS):
        mine, best = reject("no rejection", kind, seed), best_of_n(kind, seed)
        for name in ("tokens", "length", "status", "logprob"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(best, name))
        np.testing.assert_array_equal(mine.trace.sample, best.trace.best)
        np.testing.assert_array_equal(mine.usage.emitted, best.usage.emitted)
        np.testing.assert_array_equal(mine.usage.flops, best.usage.flops)


@pytest.mark.parametrize("case", [case for case in CASES if case != "dead end"])
def test_a_score_that_knows_the_end_finds_the_best_of_n(case) -> None:
    """Ties included, whatever the rate of rejection, as long as a response is kept."""
    for seed in SEEDS:
        result = reject(case, "oracle", seed)
        for row in range(len(PROMPTS)):
            best, score = naive.best_of_n(streams("oracle", seed, row)[: decoder(case).width])
            assert (result.trace.sample[row], result.trace.score[row]) == (best, score)


def test_more_responses_are_never_worse_for_a_score_that_knows_the_end() -> None:
    for seed in SEEDS:
        few, many = (
            reject(case, "oracle", seed).trace.score for case in ("gentle", "as published")
        )
        assert (few <= many).all()


@pytest.mark.parametrize("case", ["as in the code", "as published"])
def test_a_completed_response_is_never_lost(case) -> None:
    """No response seen complete at any cut was worth more than the one returned."""
    seen = 0
    for seed in SEEDS:
        result, final = reject(case, "distinct", seed), best_of_n("distinct", seed).trace.length
        table = samples.worth("distinct", seed, N)
        for row in range(len(PROMPTS)):
            for cut in result.trace.cuts:
                for sample, length in zip(cut.sample[row], cut.length[row], strict=True):
                    if length == final[row, sample]:
                        seen += 1
                        assert table[row, sample, length] <= result.trace.score[row]
    assert seen > 30


COUNTS = {
    (64, 0.5): [32, 16, 8, 4, 2, 1, 0],
    (1000, 0.5): [500, 250, 125, 62, 31, 16, 8, 4, 2, 1, 0],
    (64, 0.3): [45, 31, 22, 15, 10, 7, 5, 4, 3, 2, 1, 1],
    (64, 0.9): [6, 1, 0],
}


@pytest.mark.parametrize(("width", "alpha"), COUNTS)
def test_counts_kept(width, alpha) -> None:
    """The sequences of the authors' rounding."""
    for after in COUNTS[width, alpha]:
        width = kept(width, alpha, "count")
        assert width == after


@pytest.mark.parametrize(("alpha", "last"), [(0.1, 4), (0.3, 1), (0.0, 64)])
def test_a_gentle_count_stalls(alpha, last) -> None:
    stages = schedule(10**6, 64, alpha, 10**9, "count")
    assert stages[-1].width == last == kept(last, alpha, "count")


@pytest.mark.parametrize("rule", ["count", "quantile"])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9])
def test_schedules(alpha, rule) -> None:
    for width in (1, 2, 3, 7, 16, 31, 64, 100):
        for budget, longest in ((64 * 17, 128), (1000, 100), (3000, 50), (10 * width, 4)):
            stages = schedule(budget, width, alpha, longest, rule)
            assert stages == naive.schedule(budget, width, alpha, longest, rule)
            assert all(stage.width * stage.until <= budget for stage in stages)
            assert stages[-1].until <= longest


def test_a_schedule_by_hand() -> None:
    """Memory for 16 responses of 128: halving the number doubles the length."""
    assert schedule(16 * 128, 256, 0.5, 128, "count") == [
        Stage(256, 8),
        Stage(128, 16),
        Stage(64, 32),
        Stage(32, 64),
        Stage(16, 128),
    ]


SCORES = (0.3, -0.1, 0.7, 0.2, 0.7, 0.0, 0.5, 0.2)


@pytest.mark.parametrize(
    ("alpha", "cut", "keeps"),
    [
        (0.25, 0.15, [0, 2, 3, 4, 6, 7]),
        (0.5, 0.25, [0, 2, 4, 6]),
        (0.75, 0.55, [2, 4]),
        (0.9, 0.7, [2, 4]),
    ],
)
def test_the_quantile_interpolates_linearly(alpha, cut, keeps) -> None:
    """Known quantiles; the last one falls on a tie, and of tied scores the first has the place."""
    found, mask = naive.quantile_rule(SCORES, alpha)
    assert found == pytest.approx(cut) and mask == keeps
    chosen = population.top(jnp.asarray([SCORES]), kept(len(SCORES), alpha, "quantile"))
    assert chosen[0].tolist() == (keeps if alpha < 0.9 else [2])


def test_another_interpolation_would_keep_others() -> None:
    assert naive.quantile_rule(SCORES, 0.5, "lower") == (pytest.approx(0.2), [0, 2, 3, 4, 6, 7])


@pytest.mark.parametrize("rule", ["count", "quantile"])
def test_survivors_of_a_cut(rule) -> None:
    """Distinct scores are cut by the rule exactly; of tied ones the first fill the places."""
    rng = np.random.default_rng(0)
    for width in (1, 5, 16):
        scores = np.stack([rng.permutation(width), rng.integers(0, 3, width)]).astype(np.float32)
        for alpha in (0.0, 0.3, 0.5, 0.9):
            places = kept(width, alpha, rule)
            chosen = np.asarray(population.top(jnp.asarray(scores), places))
            for row in (0, 1):
                expected = naive.survivors(scores[row].tolist(), alpha, rule)
                assert chosen[row].tolist() == expected
            if rule == "quantile":
                assert chosen[0].tolist() == naive.quantile_rule(scores[0].tolist(), alpha)[1]
                tied = naive.quantile_rule(scores[1].tolist(), alpha)[1]
                assert set(chosen[1].tolist()) <= set(tied) and len(tied) >= places


# (N, alpha, correlation of the partial score with the final one at each cut): expected best of
# the survivors, probability that the best of all survives. Simulated apart with 1e5 trials.
GAUSSIAN = {
    (16, 0.5, (0.0,)): (1.423, 0.5),
    (16, 0.5, (0.5,)): (1.699, 0.839),
    (16, 0.5, (0.8,)): (1.759, 0.976),
    (16, 0.5, (0.9,)): (1.766, 0.996),
    (16, 0.5, (1.0,)): (1.766, 1.0),
    (16, 0.75, (0.0,)): (1.031, 0.25),
    (16, 0.75, (0.5,)): (1.536, 0.603),
    (16, 0.75, (0.8,)): (1.722, 0.862),
    (16, 0.75, (0.9,)): (1.755, 0.947),
    (64, 0.5, (0.5,)): (2.318, 0.904),
    (64, 0.5, (0.8,)): (2.345, 0.997),
    (64, 0.75, (0.5,)): (2.229, 0.714),
    (64, 0.75, (0.8,)): (2.337, 0.961),
    (64, 0.5, (0.5, 0.7, 0.9)): (2.300, 0.864),
}
TRIALS = 30_000


@pytest.mark.parametrize(("width", "alpha", "correlations"), GAUSSIAN)
def test_gaussian_scores(width, alpha, correlations) -> None:
    """Final scores N(0, 1), partial ones correlated; the engine's own cut, five standard errors."""
    rng = np.random.default_rng(7)
    final = rng.standard_normal((TRIALS, width)).astype(np.float32)
    left = final
    for correlation in correlations:
        noise = rng.standard_normal(left.shape).astype(np.float32)
        score = correlation * left + np.sqrt(1 - correlation**2) * noise
        index = population.top(jnp.asarray(score), kept(left.shape[1], alpha, "count"))
        left = np.take_along_axis(left, np.asarray(index), axis=1)
    best, survives = left.max(1), left.max(1) == final.max(1)
    errors = [x.std() * np.sqrt(1 / TRIALS + 1e-5) for x in (best, survives)]
    mean, probability = GAUSSIAN[width, alpha, correlations]
    # The table is rounded to three places.
    assert abs(best.mean() - mean) < 5 * errors[0] + 5e-4
    assert abs(survives.mean() - probability) < 5 * errors[1] + 5e-4


@pytest.mark.parametrize("case", ["as in the code", "as published", "gentle"])
def test_cost_of_responses_that_never_end(case) -> None:
    """Decoded tokens = sum of b_k (L_k - L_(k-1)), strictly fewer than best-of-N's."""
    method = decoder(case)
    usage = reject(case, "distinct", 0, endless=True).usage
    stages = naive.schedule(method.budget, method.width, method.alpha, LONGEST, method.rule)
    for row, prompt in enumerate(PROMPTS):
        reached, decoded = len(prompt), 0
        for width, until in stages:
            target = min(until, len(prompt) + samples.MAX_TOKENS)
            decoded, reached = decoded + width * (target - reached), target
        assert usage.emitted[row] == decoded < method.width * samples.MAX_TOKENS
        assert usage.target_tokens[row] == decoded + len(prompt) - 1
        assert usage.peak_cache_tokens[row] <= method.budget


@pytest.mark.parametrize("case", CASES)
def test_allocated_memory_keeps_to_the_budget(case, monkeypatch) -> None:
    """Of every stage the arrays themselves, and not only what is counted of them."""
    seen, advance = [], population.advance

    def watched(generator, alive, until):
        after = advance(generator, alive, until)
        seen.append((alive.width, after.rows.cache))
        return after

    monkeypatch.setattr(population, "advance", watched)
    method = decoder(case)
    jax.eval_shape(method, jax.random.key(0), samples.prompts())
    stages = naive.schedule(method.budget, method.width, method.alpha, LONGEST, method.rule)
    assert [width for width, _ in seen] == [width for width, _ in stages]
    for width, cache in seen:
        assert cache.batch == len(PROMPTS) * width
        assert width * cache.capacity <= method.budget
        cost = method.generator.model.cost.cache_bytes
        assert cache.nbytes <= len(PROMPTS) * method.budget * cost


def test_a_model_without_usable_logits_gives_an_invalid_answer() -> None:
    run = replace(decoder("as published"), generator=samples.generator(broken=True))
    result = decode(run, 0, samples.prompts())
    assert (result.status == Status.INVALID).all() and (result.length == 0).all()
    assert (result.usage.invalid == N).all() and (result.usage.emitted == 0).all()


def test_a_reward_model_reads_every_prefix_once() -> None:
    """Scores at the cuts are those of a full pass, while each token is read a single time."""
    judge = RewardModel.create(small(6, hidden=16, layers=1), rngs=nnx.Rngs(0))
    method = replace(decoder("gentle"), scorer=RewardScorer(judge))
    result = jax.device_get(decode(method, 0, samples.prompts()))
    pool = best_of_n("distinct", 0).trace
    score = jax.jit(lambda ids: judge.reward(judge.forward(ids)[0]))
    for row, prompt in enumerate(PROMPTS):
        ids = np.concatenate([np.tile(prompt, (N, 1)), pool.tokens[row]], axis=1)
        ids = np.pad(ids, ((0, 0), (0, LONGEST - ids.shape[1])))
        full = np.asarray(score(ids))
        for cut in result.trace.cuts:
            at = len(prompt) + cut.length[row] - 1
            expected = full[cut.sample[row], at]
            np.testing.assert_allclose(cut.score[row], expected, rtol=1e-4, atol=1e-5)
        assert result.usage.scorer_tokens[row] == result.usage.emitted[row] + len(prompt)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.0}, r"alpha=1.0 must lie in \[0, 1\)"),
        ({"alpha": -0.1}, r"alpha=-0.1 must lie in \[0, 1\)"),
        ({"width": 0}, "width=0: at least one response is needed"),
        ({"rule": "median"}, "rule='median' must be 'count' or 'quantile'"),
        ({"budget": 31}, "budget=31 .* raise the budget to 32 or lower the width"),
    ],
)
def test_bad_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        SpeculativeRejection(
            samples.generator(),
            FunctionScorer(lambda *rows: rows[3]),
            **({"budget": 96, "width": N} | settings),
        )


def test_a_prompt_without_room_is_refused() -> None:
    """96 tokens for 16 responses leave 6 each, one of them for the response."""
    method = decoder("as in the code")
    method.check(Prompt.of([[2] * 5]))
    with pytest.raises(ValueError, match=r"prompt.length\[1\]=6 exceeds the 5 tokens that fit"):
        decode(method, 0, Prompt.of([[2], [2] * 6]))
    with pytest.raises(ValueError, match=r"prompt.tokens\[0, 1\]=6 is outside the vocabulary"):
        decode(method, 0, Prompt.of([[2, 6]]))


def test_a_budget_from_bytes() -> None:
    """The caches of generator and judge, both there twice but for alpha during a cut."""
    writer = Transformer(small(20, hidden=32, layers=2), rngs=nnx.Rngs(0))
    judge = RewardModel.create(small(20, hidden=16, layers=1), rngs=nnx.Rngs(1))
    token = writer.init_cache(3, 8).nbytes / 24 + judge.init_cache(3, 8).nbytes / 24
    budget = tokens_that_fit(1e6, 0.25, writer, judge)
    assert 1.75 * token * budget <= 1e6 < 1.75 * token * (budget + 1)
    width = first_width(budget, 12, 20)
    (first, *_) = schedule(budget, width, 0.25, 200, "count")
    assert first.until >= 32 > budget // (width + 1)
    with pytest.raises(ValueError, match="nbytes=100 does not hold a single token"):
        tokens_that_fit(100, 0.25, writer, judge)
    with pytest.raises(ValueError, match=r"budget=31 .* 12 tokens with room for 20; .* to 32"):
        first_width(31, 12, 20)
