"""The token loop against references that run the model over everything each time."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode import autoregress, struct
from jaxdecode.autoregress import Generator, capacities
from jaxdecode.cache import gather, resize
from jaxdecode.logits import Ban, Identity, Temperature
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical, Greedy
from jaxdecode.stop import Stop
from jaxdecode.testing import naive
from jaxdecode.testing.enumerable import EnumerableLM, next_logits, sequence_logprob, sequence_probs
from jaxdecode.testing.statistics import assert_distribution, completions, rejects
from jaxdecode.types import Array

PROMPTS = ([1, 2, 3], [4], [2, 2], [0, 5, 1, 3, 4])
IDS = (3, 8, 1, 2)
WIDTH, MAX_TOKENS = 5, 8
NEVER = 99


def lively() -> EnumerableLM:
    """Sharp enough that its most probable token changes from step to step."""
    return EnumerableLM.random(9, 6, sharpness=3.0)


def greedy(eos=(NEVER, NEVER), sequence=(NEVER, NEVER), **options: Any) -> Generator:
    stop = Stop.of(eos, [sequence])
    return Generator(lively(), Identity(), Greedy(), stop, MAX_TOKENS, **options)


def sampling(**options: Any) -> Generator:
    return Generator(lively(), Temperature(1.5), Categorical(), Stop.of(1), MAX_TOKENS, **options)


@partial(jax.jit, static_argnames="samples")
def run(generator: Generator, key: Array, prompt: Prompt, samples: int = 1) -> Result:
    rows = autoregress.generate(generator, key, prompt, samples)
    return autoregress.finish(generator, rows, trace=rows.meter)


def decode(generator: Generator, seed: int = 0, samples: int = 1) -> Result:
    prompt = Prompt.of(PROMPTS, IDS, WIDTH)
    return jax.device_get(run(generator, jax.random.key(seed), prompt, samples))


def outputs(result: Result) -> list[list[int]]:
    return [t[:n].tolist() for t, n in zip(result.tokens, result.length, strict=True)]


@functools.cache
def expected(eos: tuple[int, ...] = ()) -> list[list[int]]:
    logits = partial(next_logits, lively())
    return [naive.greedy(logits, prompt, MAX_TOKENS, eos=eos) for prompt in PROMPTS]


def test_greedy_equals_its_reference() -> None:
    result = decode(greedy())
    assert outputs(result) == expected()
    assert len({token for output in expected() for token in output}) > 3
    for row, prompt in enumerate(PROMPTS):
        logprob = sequence_logprob(lively(), prompt, expected()[row])
        np.testing.assert_allclose(result.logprob[row], logprob, rtol=1e-4)


@pytest.mark.parametrize("eos", [(0, NEVER), (0, 2), (5, 3), (1, 4)])
def test_any_of_several_end_tokens_ends_a_row(eos) -> None:
    """The prompts contain every token: only emitted ones count."""
    result = decode(greedy(eos))
    assert outputs(result) == expected(eos)
    for output, status in zip(expected(eos), result.status, strict=True):
        assert status == (Status.EOS if output[-1] in eos else Status.LENGTH)


def test_an_end_token_in_the_last_place_is_an_end() -> None:
    row = next(i for i, output in enumerate(expected()) if output[-1] not in output[:-1])
    result = decode(greedy((expected()[row][-1], NEVER)))
    assert (result.status[row], result.length[row]) == (Status.EOS, MAX_TOKENS)


def test_a_stop_sequence_ends_a_row_and_stays() -> None:
    output = expected()[0]
    result = decode(greedy(sequence=tuple(output[2:4])))
    first = next(i for i in range(1, MAX_TOKENS) if output[i - 1 : i + 1] == output[2:4])
    assert outputs(result)[0] == output[: first + 1]
    assert result.status[0] == Status.EOS


def test_a_stop_sequence_cannot_begin_in_the_prompt() -> None:
    """The prompt's last and the first emitted token spell it, and the row goes on."""
    spanning = (PROMPTS[0][-1], expected()[0][0])
    result = decode(greedy(sequence=spanning))
    inside = any(tuple(expected()[0][i : i + 2]) == spanning for i in range(MAX_TOKENS - 1))
    assert not inside and outputs(result)[0] == expected()[0]


def test_tokens_past_the_length_are_zero() -> None:
    result = decode(greedy((3, 5)))
    assert result.length.min() < MAX_TOKENS
    assert not result.tokens[np.arange(MAX_TOKENS) >= result.length[:, None]].any()


@pytest.mark.parametrize("growth", [2, 3])
def test_a_growing_cache_changes_nothing(growth) -> None:
    for seed in range(3):
        fixed, grown = decode(sampling(), seed), decode(sampling(cache_growth=growth), seed)
        chex.assert_trees_all_close(fixed, grown, rtol=1e-6)


def test_cache_sizes_end_with_what_is_needed() -> None:
    assert capacities(sampling(), WIDTH) == [13]
    assert capacities(sampling(cache_growth=2), WIDTH) == [9, 13]
    assert capacities(sampling(cache_growth=3), WIDTH) == [8, 11, 13]
    assert capacities(sampling(cache_growth=20), WIDTH) == list(range(6, 14))


def test_samples_do_not_depend_on_how_many_there_are() -> None:
    """Row b * samples + k is sample k of prompt b, whoever else is drawn."""
    many, few = decode(sampling(), samples=3), decode(sampling())
    for name in ("tokens", "length", "status"):
        np.testing.assert_array_equal(getattr(many, name)[::3], getattr(few, name))
    np.testing.assert_allclose(many.logprob[::3], few.logprob, rtol=1e-5)
    later = jax.jit(partial(autoregress.Generator.start, samples=1, capacity=13))(
        sampling(), jax.random.key(0), Prompt.of(PROMPTS, IDS, WIDTH), first=2
    )
    later = advance(sampling(), later, 13)
    np.testing.assert_array_equal(many.tokens[2::3], later.tokens)


def begin(generator: Generator, capacity: int) -> Rows:
    prompt = Prompt.of(PROMPTS, IDS, WIDTH)
    return generator.start(jax.random.key(0), prompt, 1, capacity)


@jax.jit
def advance(generator: Generator, rows: Rows, until) -> Rows:
    return generator.advance(rows, jnp.full_like(rows.length, until))


def test_rows_pause_where_they_are_told_and_go_on_as_if_they_had_not() -> None:
    generator = greedy()
    rows = begin(generator, WIDTH + MAX_TOKENS)
    for until in (5, 6, 6, 9, 13):
        rows = advance(generator, rows, until)
        for row, prompt in enumerate(PROMPTS):
            count = min(max(until - len(prompt), 0), MAX_TOKENS)
            assert rows.length[row] == count
            assert rows.running[row] == (count < MAX_TOKENS)
            assert rows.tokens[row, :count].tolist() == expected()[row][:count]
            assert rows.cache.length[row] == len(prompt) + count - 1


def test_rows_never_write_past_their_cache() -> None:
    """They pause at its capacity, still running; with a larger one they go on."""
    generator = greedy()
    rows = advance(generator, begin(generator, 7), 13)
    for row, prompt in enumerate(PROMPTS):
        assert rows.length[row] == 7 - len(prompt) and rows.running[row]
    rows = replace(rows, cache=resize(rows.cache, 13))
    rows = advance(generator, rows, 13)
    assert [t.tolist() for t in rows.tokens] == expected()


def test_garbage_beyond_the_prefix_is_never_read() -> None:
    rows = begin(greedy(), 13)
    past = jnp.arange(13) >= rows.cache.length[:, None]
    cache = replace(
        rows.cache,
        k=jnp.where(past[None, :, None, None, :], jnp.nan, rows.cache.k),
        v=jnp.where(past[None, :, None, :, None], jnp.nan, rows.cache.v),
    )
    rows = advance(greedy(), replace(rows, cache=cache), 13)
    assert [t.tolist() for t in rows.tokens] == expected()


def test_rows_can_be_gathered_and_run_on() -> None:
    """A row is everything its next step needs: copies and survivors go on unchanged."""
    generator = sampling()
    rows = advance(generator, begin(generator, 13), 7)
    alone = advance(generator, rows, 13)
    parent = np.array([2, 0, 2, 3])
    moved = advance(generator, gather(rows, jnp.asarray(parent)[None]), 13)
    for name in ("tokens", "length", "status", "logprob"):
        np.testing.assert_array_equal(getattr(moved, name), getattr(alone, name)[parent], name)


def test_a_row_without_usable_logits_is_invalid_and_harms_no_other() -> None:
    """The model knows no token 5, which one prompt contains."""
    model = lively()
    model = replace(model, keys=model.keys.at[:, 5].set(jnp.nan))
    generator = replace(greedy(), model=model, transform=Ban(jnp.array([5])))
    result = decode(generator)
    assert result.status.tolist() == [Status.LENGTH] * 3 + [Status.INVALID]
    assert result.length.tolist() == [MAX_TOKENS] * 3 + [0]
    assert result.usage.invalid.tolist() == [0, 0, 0, 1]
    assert result.logprob[3] == 0 and np.isfinite(result.logprob).all()
    logits = partial(next_logits, lively())
    for row in range(3):
        banned = naive.greedy(logits, PROMPTS[row], MAX_TOKENS, lambda x, *_: naive.ban(x, (5,)))
        assert outputs(result)[row] == banned


def test_usage_is_a_recount() -> None:
    result = decode(greedy((3, 5)))
    for row, prompt in enumerate(PROMPTS):
        usage = jax.tree.map(lambda x, row=row: x[row], result.usage)
        count, given = int(result.length[row]), len(prompt)
        assert usage.prompt_tokens == given
        assert usage.emitted == usage.bonus == count
        assert usage.target_passes == count + (given > 1)
        assert usage.target_tokens == given - 1 + count
        # Token i of the text sees i + 1 keys; the newest one has not been run.
        assert usage.attended == sum(range(1, given + count))
        assert usage.peak_cache_tokens == given + count - 1
        cost = lively().cost
        assert usage.peak_cache_bytes == cost.cache_bytes * usage.peak_cache_tokens
        flops = 2 * cost.parameters * usage.target_tokens + cost.attention * usage.attended
        assert usage.flops == flops
        assert usage.accepted == usage.truncated == usage.drafted == usage.invalid == 0


@struct.dataclass
class TopLogit:
    """Sums the largest raw logit of every step, and the tokens drawn."""

    def init(self, rows: int) -> tuple:
        return jnp.zeros((rows,)), jnp.zeros((rows,), jnp.int32)

    def observe(self, state, logits, token, active) -> tuple:
        top, drawn = state
        return top + jnp.where(active, logits.max(1), 0), drawn + jnp.where(active, token, 0)


def test_a_meter_reads_the_raw_logits_of_active_rows() -> None:
    generator = greedy((3, 5), meter=TopLogit())
    generator = replace(generator, transform=Temperature(9.0))
    result = decode(generator)
    top, drawn = result.trace
    for row, prompt in enumerate(PROMPTS):
        output = outputs(result)[row]
        seen = [next_logits(lively(), [*prompt, *output[:i]]).max() for i in range(len(output))]
        np.testing.assert_allclose(top[row], sum(seen), rtol=1e-4)
        assert drawn[row] == sum(output)


def test_sampled_completions_follow_their_law() -> None:
    """Tempered, with an end token; the law at another temperature is refuted."""
    model, temperature, rows = EnumerableLM.random(1, 5), 0.7, 4000
    generator = Generator(model, Temperature(temperature), Categorical(), Stop.of(1), 2)
    prompt = Prompt.of([[2, 3]] * rows, width=2)
    result = jax.device_get(run(generator, jax.random.key(0), prompt))
    drawn = completions(result.tokens, result.length)
    laws = [
        sequence_probs(model, [2, 3], 2, lambda x, *_, t=t: naive.temperature(x, t), eos=[1])
        for t in (temperature, 0.8)
    ]
    assert_distribution(drawn, laws[0])
    assert rejects(drawn, laws[1])


@pytest.mark.parametrize("name", ["max_tokens", "cache_growth"])
def test_sizes_below_one_are_refused(name) -> None:
    with pytest.raises(ValueError, match=f"{name}=0: at least 1 is needed"):
        replace(greedy(), **{name: 0})
