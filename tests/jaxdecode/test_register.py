"""The register of completed responses, and what is reported at the end."""

from __future__ import annotations

import itertools
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.autoregress import Generator
from jaxdecode.register import Best, Outcome, chosen, finish, merge
from jaxdecode.result import Status, Usage
from tests import samples

NOTHING = Best.none(1, 3)


def found(score: float, sample: int, status: Status = Status.EOS) -> Best:
    """A response whose tokens tell which one it is."""
    return Best(
        score=jnp.array([score], jnp.float32),
        tokens=jnp.array([[sample, sample, 0]], jnp.int32),
        length=jnp.array([2], jnp.int32),
        logprob=jnp.array([-float(sample)]),
        status=jnp.array([status], jnp.int8),
        sample=jnp.array([sample], jnp.int32),
    )


def same(a: Best, b: Best) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def test_the_best_does_not_depend_on_the_order() -> None:
    """The highest score, the lowest sample of a tie, and nothing only if there is nothing."""
    entries = [found(1.0, 4), found(2.0, 5), NOTHING, found(2.0, 2), found(-jnp.inf, 0)]
    for order in itertools.permutations(entries):
        assert same(reduce(Best.or_better, order), found(2.0, 2))


def test_anything_is_better_than_nothing() -> None:
    worst = found(-np.inf, 7)
    assert same(NOTHING.or_better(worst), worst) and same(worst.or_better(NOTHING), worst)
    assert same(NOTHING.or_better(NOTHING), NOTHING)


@pytest.mark.parametrize(
    ("best", "rest", "status", "sample"),
    [
        (found(1.0, 4, Status.LENGTH), found(9.0, 1, Status.RUNNING), Status.LENGTH, 4),
        (NOTHING, found(9.0, 1, Status.RUNNING), Status.BUDGET, 1),
        (NOTHING, NOTHING, Status.INVALID, -1),
    ],
)
def test_an_unfinished_response_is_the_last_resort(best, rest, status, sample) -> None:
    answer = chosen(Outcome(best, rest, Usage.zeros(1)))
    assert (answer.status.tolist(), answer.sample.tolist()) == ([status], [sample])
    assert answer.tokens[0, 0] == max(sample, 0)
    if sample < 0:
        assert answer.length.tolist() == [0] and not answer.tokens.any()


def test_waves_add_up() -> None:
    """All but the prompt, which is the same one, and memory, which they take in turn."""
    usage = Usage.zeros(1).add(emitted=jnp.array([4]), prompt_tokens=jnp.array([3]))
    first = Outcome(found(1.0, 1), NOTHING, usage.peak(jnp.array([9])))
    second = Outcome(found(1.0, 0), found(0.0, 2), usage.peak(jnp.array([7])))
    whole = merge(jax.tree.map(lambda *x: jnp.stack(x), first, second))
    assert same(whole.best, found(1.0, 0)) and same(whole.rest, found(0.0, 2))
    counts = [whole.usage.emitted, whole.usage.prompt_tokens, whole.usage.peak_cache_tokens]
    assert [int(count[0]) for count in counts] == [8, 3, 9]


def test_the_result_is_priced_by_the_generator() -> None:
    generator: Generator = samples.generator()
    usage = Usage.zeros(1).add(target_tokens=jnp.array([5]), flops=jnp.array([11.0]))
    result = finish(generator, Outcome(found(1.0, 1), NOTHING, usage), trace="kept")
    assert result.usage.flops.tolist() == [11 + 2 * generator.model.cost.parameters * 5]
    assert (result.tokens.tolist(), result.logprob.tolist()) == ([[1, 1, 0]], [-1.0])
    assert result.trace == "kept"
