"""Hypotheses in stages: run, scored, pruned, and accounted for."""

from __future__ import annotations

import functools
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode import autoregress, population
from jaxdecode.population import Population, completed, leader, top, unfinished
from jaxdecode.result import Status
from jaxdecode.rows import Rows
from tests import samples
from tests.samples import LONGEST, MAX_TOKENS, PROMPTS, Table

B, K = len(PROMPTS), 6
SEED = 3


@jax.jit
def everyone() -> Rows:
    """All samples run to their ends by the token loop alone."""
    return autoregress.generate(samples.generator(), jax.random.key(SEED), samples.prompts(), K)


@functools.cache
def whole() -> Rows:
    return jax.device_get(everyone())


@functools.partial(jax.jit, static_argnames=("width", "first"))
def start(table: Table, width: int = K, first: int = 0) -> Population:
    key, prompt = jax.random.key(SEED), samples.prompts()
    return population.start(samples.generator(), table, key, prompt, width, 7, first)


@functools.partial(jax.jit, static_argnames="until")
def stage(table: Table, alive: Population, until: int) -> Population:
    alive = population.advance(samples.generator(), alive, until)
    return population.evaluate(table, alive, MAX_TOKENS)


def distinct() -> np.ndarray:
    return samples.worth("distinct", SEED, K)


def run(worth: np.ndarray, *untils: int, keep: np.ndarray | None = None) -> Population:
    """Through stages; after the first one only hypotheses `keep` go on."""
    table = Table(jnp.asarray(worth))
    alive = start(table)
    for index, until in enumerate(untils):
        alive = stage(table, alive, until)
        if index == 0 and keep is not None:
            alive = population.select(alive, jnp.asarray(keep))
    return jax.device_get(alive)


KEEP = np.array([[1, 4, 5], [0, 1, 2], [5, 3, 0]])


def test_the_best_in_their_order() -> None:
    """Ties go to the first; -inf comes last."""
    scores = jnp.array([[1.0, 3, 3, 2, 3], [0, 0, 0, 0, 0], [-jnp.inf, 5, -jnp.inf, 4, 6]])
    assert top(scores, 2).tolist() == [[1, 2], [0, 1], [1, 4]]
    assert top(scores, 4).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 3, 4]]
    assert top(scores, 5).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_hypotheses_are_the_samples_of_their_prompt() -> None:
    """From the first one or from any other, and as many as one likes."""
    table = Table(jnp.asarray(distinct()))
    later = start(table, width=2, first=3)
    assert later.sample.tolist() == [[3, 4]] * B and later.width == 2
    rows = samples.generator().advance(later.rows, jnp.full((2 * B,), 7))
    for b, prompt in enumerate(PROMPTS):
        for k in range(2):
            full, count = whole(), 7 - len(prompt)
            expected = full.tokens[b * K + 3 + k] * (np.arange(MAX_TOKENS) < count)
            assert rows.tokens[b * 2 + k].tolist() == expected.tolist()


@pytest.mark.parametrize("untils", [(7,), (7, LONGEST), (7, 12, LONGEST)])
def test_survivors_are_prefixes_of_the_samples_left_alone(untils) -> None:
    """Who else was dropped, and where the stages lie, leaves no trace."""
    alive = run(distinct(), *untils, keep=KEEP)
    np.testing.assert_array_equal(alive.sample, KEEP)
    for b, prompt in enumerate(PROMPTS):
        for place, k in enumerate(KEEP[b]):
            row, full = b * KEEP.shape[1] + place, b * K + k
            count = min(whole().length[full], untils[-1] - len(prompt))
            assert alive.rows.length[row] == count
            tokens = alive.rows.tokens[row, :count].tolist()
            assert tokens == whole().tokens[full, :count].tolist()
            ended = count == whole().length[full]
            assert alive.rows.status[row] == (whole().status[full] if ended else Status.RUNNING)
            assert alive.score[b, place] == distinct()[b, k, count]
            assert alive.rows.cache.length[row] == len(prompt) + count - 1


def test_the_cache_grows_and_shrinks_with_its_stage() -> None:
    alive = run(distinct(), 7, 12, keep=KEEP)
    assert (alive.rows.cache.batch, alive.rows.cache.capacity) == (KEEP.size, 12)


def test_the_dead_are_paid_for() -> None:
    """Costs are kept by prompt, whoever they were spent on; memory is what is held at once."""
    alive = run(distinct(), 7, LONGEST, keep=KEEP)
    lengths = whole().length.reshape(B, K)
    for b, prompt in enumerate(PROMPTS):
        early = np.minimum(lengths[b], 7 - len(prompt))
        late = lengths[b, KEEP[b]]
        decoded = int(early.sum() + late.sum() - early[KEEP[b]].sum())
        assert alive.usage.emitted[b] == decoded
        assert alive.usage.target_tokens[b] == decoded + len(prompt) - 1
        assert alive.usage.prompt_tokens[b] == len(prompt)
        held = [int((len(prompt) + counts - 1).sum()) for counts in (early, late)]
        assert alive.usage.peak_cache_tokens[b] == max(held)
    for item in fields(alive.rows.usage):
        assert not np.any(getattr(alive.rows.usage, item.name)), "charged to the prompts"


def test_completed_responses_outlive_their_rows() -> None:
    """The best one that ended in the first stage stays in the register when it is dropped."""
    seen = 0
    for b, prompt in enumerate(PROMPTS):
        lengths = whole().length[b * K : (b + 1) * K]
        early = [k for k in range(K) if lengths[k] <= 7 - len(prompt)]
        if not early:
            continue
        seen += 1
        worth = distinct()
        worth[b, early[-1]] = 100.0
        others = [k for k in range(K) if k != early[-1]][:3]
        alive = run(worth, 7, LONGEST, keep=np.array([others] * B))
        best = jax.tree.map(lambda x, b=b: x[b], alive.best)
        full = b * K + early[-1]
        assert (best.sample, best.score) == (early[-1], 100.0)
        assert best.tokens.tolist() == whole().tokens[full].tolist()
        assert (best.length, best.status) == (whole().length[full], whole().status[full])
        assert best.logprob == pytest.approx(whole().logprob[full], rel=1e-6)
    assert seen > 1


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_ends_a_hypothesis(fault) -> None:
    """It is counted once, never leads, and does not run on, even if scored well later."""
    worth = distinct()
    worth[:, 2, :7] = fault
    worth[:, 2, 7:] = 50.0
    alive = run(worth, 7, LONGEST)
    for b, prompt in enumerate(PROMPTS):
        row = b * K + 2
        faulty = min(whole().length[row], 7 - len(prompt))
        assert alive.rows.length[row] == faulty and alive.score[b, 2] == -np.inf
        assert alive.rows.status[row] == Status.INVALID
        assert alive.usage.invalid[b] == 1
        assert alive.best.sample[b] not in (2, -1)


def test_the_leader_is_the_first_of_the_best_that_are_eligible() -> None:
    alive = run(distinct(), 7)
    alive = replace(alive, score=np.round(alive.score))
    for eligible in (completed, unfinished):
        best = jax.device_get(leader(alive, eligible))
        able = np.asarray(eligible(alive.rows)).reshape(B, K)
        assert able.any() and not able.all()
        for b in range(B):
            if not able[b].any():
                assert best.sample[b] == -1 and best.status[b] == Status.INVALID
                continue
            scores = np.where(able[b], alive.score[b], -np.inf)
            k = int(np.argmax(scores))
            assert (best.sample[b], best.score[b]) == (k, scores[k])
            assert best.tokens[b].tolist() == alive.rows.tokens[b * K + k].tolist()
