"""Best-of-N: what is drawn, what is chosen, what it costs, and the law of its answers."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.selection.best_of_n import BestOfN
from jaxdecode import population
from jaxdecode.autoregress import Generator
from jaxdecode.decoder import decode
from jaxdecode.logits import Identity
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.sampling import Categorical
from jaxdecode.scoring import FunctionScorer
from jaxdecode.stop import Stop
from jaxdecode.testing.enumerable import EnumerableLM, sequence_probs
from jaxdecode.testing.statistics import assert_distribution, completions, power, rejects
from tests import samples
from tests.algorithms import naive
from tests.algorithms.naive import Stream
from tests.samples import PROMPTS, Table

N = 16
SEEDS = range(4)


def remainder(prompt, prompt_length, tokens, length):
    """One of five numbers, so that ties abound."""
    total = jnp.sum(tokens * (1 + jnp.arange(tokens.shape[1])), axis=1)
    return ((total + length) % 5).astype(jnp.float32)


def remainder_of(output: list[int]) -> float:
    return float((sum(t * (1 + i) for i, t in enumerate(output)) + len(output)) % 5)


@functools.cache
def best(seed: int, count: int = N, **options: Any) -> Result:
    method = BestOfN(samples.generator(), FunctionScorer(remainder), count, **options)
    return jax.device_get(decode(method, seed, samples.prompts()))


def outputs(result: Result, row: int) -> list[list[int]]:
    """The responses of a pool as lists."""
    pool = result.trace
    return [t[:n].tolist() for t, n in zip(pool.tokens[row], pool.length[row], strict=True)]


def test_the_first_of_the_best_is_returned() -> None:
    tied = 0
    for seed in SEEDS:
        result = best(seed)
        for row in range(len(PROMPTS)):
            drawn = outputs(result, row)
            scores = [remainder_of(output) for output in drawn]
            streams = [
                Stream(output, [score] * (len(output) + 1))
                for output, score in zip(drawn, scores, strict=True)
            ]
            index, score = naive.best_of_n(streams)
            tied += scores.count(score) > 1
            assert result.trace.score[row].tolist() == scores
            assert result.trace.best[row] == index
            assert result.tokens[row, : result.length[row]].tolist() == drawn[index]
            for name in ("length", "status", "logprob"):
                assert getattr(result, name)[row] == getattr(result.trace, name)[row, index]
    assert tied > 6


def assert_pools_equal(a: Any, b: Any) -> None:
    for name in ("tokens", "length", "status", "score"):
        np.testing.assert_array_equal(a[name], b[name], name)
    np.testing.assert_allclose(a["logprob"], b["logprob"], rtol=1e-5)


def test_the_first_of_many_samples_are_those_of_a_run_with_fewer() -> None:
    for seed in SEEDS:
        many, few = best(seed), best(seed, 8)
        assert_pools_equal(jax.tree.map(lambda x: x[:, :8], by_sample(many)), by_sample(few))
        score, index = few.trace.score.max(1), few.trace.score.argmax(1)
        np.testing.assert_array_equal(few.trace.best, index)
        assert (score <= many.trace.score.max(1)).all()


def by_sample(result: Result) -> Any:
    """The fields of the pool that have an axis of samples."""
    return {name: array for name, array in vars(result.trace).items() if name != "best"}


def test_a_later_run_goes_on_where_an_earlier_one_stopped() -> None:
    for seed in SEEDS:
        many, rest = best(seed), best(seed, 8, first=8)
        assert_pools_equal(jax.tree.map(lambda x: x[:, 8:], by_sample(many)), by_sample(rest))
        np.testing.assert_array_equal(rest.trace.best, 8 + rest.trace.score.argmax(1))


def test_waves_change_memory_and_nothing_else() -> None:
    for seed in SEEDS:
        whole, waves = best(seed), best(seed, wave=4)
        assert_pools_equal(vars(whole.trace), vars(waves.trace))
        for name in ("tokens", "length", "status"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(waves, name), name)
        np.testing.assert_array_equal(whole.trace.best, waves.trace.best)
        for name in ("emitted", "prompt_tokens"):
            mine, other = getattr(whole.usage, name), getattr(waves.usage, name)
            np.testing.assert_array_equal(mine, other, name)
        assert (waves.usage.peak_cache_tokens < 0.6 * whole.usage.peak_cache_tokens).all()


def test_a_wave_allocates_its_own_rows_only(monkeypatch) -> None:
    seen, advance = [], population.advance

    def watched(generator, drawn, until):
        after = advance(generator, drawn, until)
        seen.append(after.rows.cache.batch)
        return after

    monkeypatch.setattr(population, "advance", watched)
    method = BestOfN(samples.generator(), FunctionScorer(remainder), N, wave=4)
    jax.eval_shape(method, jax.random.key(0), samples.prompts())
    assert set(seen) == {4 * len(PROMPTS)}


def test_usage_counts_every_response() -> None:
    """Row by row: tokens emitted, the prompt once, slots of all responses at once."""
    result = best(0)
    for row, prompt in enumerate(PROMPTS):
        lengths = [len(output) for output in outputs(result, row)]
        usage = jax.tree.map(lambda x, row=row: x[row], result.usage)
        assert usage.emitted == usage.bonus == sum(lengths)
        assert usage.target_tokens == sum(lengths) + len(prompt) - 1
        assert usage.target_passes == sum(lengths) + (len(prompt) > 1)
        assert usage.prompt_tokens == len(prompt)
        assert usage.peak_cache_tokens == sum(len(prompt) + length - 1 for length in lengths)
        keys = [sum(range(len(prompt), len(prompt) + length)) for length in lengths]
        assert usage.attended == sum(keys) + len(prompt) * (len(prompt) - 1) / 2


def test_one_sample_is_plain_sampling() -> None:
    for seed in SEEDS:
        one = best(seed, 1)
        plain = jax.device_get(decode(Autoregressive(samples.generator()), seed, samples.prompts()))
        for name in ("tokens", "length", "status"):
            np.testing.assert_array_equal(getattr(one, name), getattr(plain, name), name)
        np.testing.assert_allclose(one.logprob, plain.logprob, rtol=1e-5)
        np.testing.assert_array_equal(one.usage.emitted, plain.usage.emitted)


@pytest.mark.parametrize("kind", ["faulty", "nothing"])
def test_a_response_without_a_score_is_never_returned(kind) -> None:
    """It is counted instead, and a prompt left without any has no answer."""
    for seed in SEEDS:
        table = samples.worth(kind, seed, N)
        method = BestOfN(samples.generator(), Table(jnp.asarray(table)), N)
        result = jax.device_get(decode(method, seed, samples.prompts()))
        for row in range(len(PROMPTS)):
            streams = [Stream(o, table[row, k]) for k, o in enumerate(outputs(result, row))]
            index, _ = naive.best_of_n(streams)
            lost = sum(not np.isfinite(stream.worth[stream.length]) for stream in streams)
            assert result.trace.best[row] == index
            assert result.usage.invalid[row] == lost
            assert (result.trace.status[row] == Status.INVALID).sum() == lost
            assert (result.status[row] == Status.INVALID) == (index < 0)
            if index < 0:
                assert result.length[row] == 0 and not result.tokens[row].any()


def spelled(prompt, prompt_length, tokens, length):
    """A different number for every response, not in the order of probability."""
    digits = jnp.where(jnp.arange(tokens.shape[1]) < length[:, None], tokens + 1, 0)
    return jnp.sum(digits * 6.0 ** jnp.arange(tokens.shape[1]), axis=1)


def spelled_law(law: dict[tuple[int, ...], float], count: int) -> dict[tuple[int, ...], float]:
    """P(best of `count` is y) = P(worth at most y)^count - P(worth less than y)^count."""
    below, best_law = 0.0, {}
    for y in sorted(law, key=lambda y: sum((t + 1) * 6**i for i, t in enumerate(y))):
        best_law[y] = (below + law[y]) ** count - below**count
        below += law[y]
    return best_law


def test_the_answers_follow_the_law_of_the_best_of_n() -> None:
    """Chi-square over all completions; it would notice one sample more or fewer."""
    model, rows, prompt = EnumerableLM.random(1, 5), 2500, [2, 3]
    generator = Generator(model, Identity(), Categorical(), Stop.of(1), 2)
    method = BestOfN(generator, FunctionScorer(spelled), 4)
    result = jax.device_get(decode(method, 0, Prompt.of([prompt] * rows, width=2)))
    answers = completions(result.tokens, result.length)
    law = sequence_probs(model, prompt, 2, eos=[1])
    assert_distribution(answers, spelled_law(law, 4))
    for other in (3, 5):
        assert power(rows, spelled_law(law, other), spelled_law(law, 4)) > 0.999
        assert rejects(answers, spelled_law(law, other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0: best-of-N needs at least one sample"),
        ({"samples": 8, "wave": 3}, "wave=3 must divide samples=8; choose a divisor, or None"),
        ({"samples": 8, "wave": 0}, "wave=0 must divide samples=8"),
    ],
)
def test_bad_settings_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        BestOfN(samples.generator(), FunctionScorer(remainder), **options)


def test_a_prompt_of_another_vocabulary_is_refused() -> None:
    method = BestOfN(samples.generator(), FunctionScorer(remainder), 2)
    with pytest.raises(ValueError, match=r"prompt.tokens\[0, 0\]=6 is outside the vocabulary"):
        decode(method, 0, Prompt.of([[6]]))
