"""Engine: K hypotheses a prompt, expanded, scored and pruned through stages.

    for (width, until) in stages:  keep the best `width`;  run them to `until` tokens;  score

Widths are static and every stage is a loop of its own over a smaller batch: what is pruned
is gathered away, so that it stops costing compute and its slots stop costing memory. A
response that ends is entered in a register at once and cannot be lost by a later cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import gather
from jaxdecode.prompt import Prompt
from jaxdecode.register import Best, Outcome
from jaxdecode.result import Status, Usage
from jaxdecode.rows import Expander, Rows, where_rows
from jaxdecode.scoring import Scorer, Spent
from jaxdecode.types import Array, Bool, Float, Int, Key


class Stage(NamedTuple):
    """Run the `width` best hypotheses of a prompt until each fills `until` tokens."""

    width: int
    until: int


@struct.dataclass
class Population:
    """B prompts of K hypotheses each.

    Attributes:
      prompt: the B prompts.
      rows: R = B * K rows, prompt by prompt.
      sample: i32[B, K], which sample of its prompt each hypothesis is.
      score: f32[B, K]; -inf where the scorer gave no finite number.
      scorer: the scorer's state of R rows.
      best: register of completed responses.
      usage: what was spent per prompt, by the living and the dead.
    """

    prompt: Prompt
    rows: Rows
    sample: Int[Array, "B K"]
    score: Float[Array, "B K"]
    scorer: Any
    best: Best
    usage: Usage

    @property
    def width(self) -> int:
        return self.sample.shape[1]

    def per_prompt(self, array: Array) -> Array:
        """[R, ...] as [B, K, ...]."""
        return array.reshape(*self.sample.shape, *array.shape[1:])


def start(
    generator: Expander,
    scorer: Scorer,
    key: Key[Array, ""],
    prompt: Prompt,
    width: int,
    capacity: int,
    first: Int[Array, ""] | int = 0,
) -> Population:
    """`width` hypotheses of every prompt, which are its samples first, first + 1, ..."""
    rows = generator.start(key, prompt, width, capacity, first)
    state, spent = scorer.init(prompt, width)
    return _charge(
        Population(
            prompt=prompt,
            rows=rows,
            sample=jnp.broadcast_to(first + jnp.arange(width), (prompt.batch, width)),
            score=jnp.full((prompt.batch, width), -jnp.inf),
            scorer=state,
            best=Best.none(prompt.batch, generator.max_tokens),
            usage=Usage.zeros(prompt.batch, generator.depth),
        ),
        spent,
    )


def advance(generator: Expander, population: Population, until: int) -> Population:
    """Run every hypothesis until it ends or its prompt and output fill `until` tokens."""
    rows = generator.room(population.rows, until)
    rows = generator.advance(rows, jnp.full_like(rows.length, until))
    return _charge(replace(population, rows=rows), Spent.nothing(rows.length.shape[0]))


def evaluate(scorer: Scorer, population: Population, window: int) -> Population:
    """Score every hypothesis, and enter the completed ones in the register.

    `window` bounds the tokens emitted since the last evaluation. A score that is not finite
    makes its hypothesis invalid: never selected, and counted.
    """
    rows = population.rows
    raw, state, spent = scorer.score(population.scorer, population.prompt, rows, window)
    usable = rows.status != Status.INVALID
    fault = ~jnp.isfinite(raw) & usable
    score = jnp.where(usable & ~fault, raw.astype(jnp.float32), -jnp.inf)
    population = replace(
        population,
        rows=replace(
            rows,
            status=jnp.where(fault, Status.INVALID, rows.status).astype(jnp.int8),
            usage=rows.usage.add(invalid=fault.astype(jnp.int32)),
        ),
        score=population.per_prompt(score),
        scorer=state,
    )
    population = _charge(population, spent)
    return replace(population, best=population.best.or_better(leader(population, completed)))


def select(population: Population, index: Int[Array, "B K"]) -> Population:
    """Keep hypotheses `index` of every prompt, in that order; the others are gone."""
    return replace(
        population,
        rows=gather(population.rows, index),
        sample=jnp.take_along_axis(population.sample, index, axis=1),
        score=jnp.take_along_axis(population.score, index, axis=1),
        scorer=gather(population.scorer, index),
    )


def top(score: Float[Array, "B K"], width: int) -> Int[Array, "B width"]:
    """Indices of the `width` best scores, in the order of the hypotheses.

    Ties go to the first; keeping the order makes later ties fall as they would have without
    the cut.
    """
    order = jnp.argsort(-score, axis=1, stable=True)
    return jnp.sort(order[:, :width], axis=1)


def completed(rows: Rows) -> Bool[Array, "R"]:
    """Whether a row ended by itself or at its maximum of tokens."""
    return (rows.status == Status.EOS) | (rows.status == Status.LENGTH)


def unfinished(rows: Rows) -> Bool[Array, "R"]:
    """Whether a row could go on."""
    return rows.running


def leader(population: Population, eligible: Callable[[Rows], Array]) -> Best:
    """The best eligible hypothesis of each prompt; the first on a tie."""
    rows = population.rows
    able = population.per_prompt(eligible(rows))
    score = jnp.where(able, population.score, -jnp.inf)
    index = jnp.argmax(score, axis=1)[:, None]
    some = jnp.any(able, axis=1)

    def pick(array: Array) -> Array:
        array = population.per_prompt(array)
        at = index.reshape(-1, 1, *[1] * (array.ndim - 2))
        return jnp.take_along_axis(array, at, axis=1)[:, 0]

    found = Best(
        score=jnp.take_along_axis(score, index, axis=1)[:, 0],
        tokens=pick(rows.tokens),
        length=pick(rows.length),
        logprob=pick(rows.logprob),
        status=pick(rows.status),
        sample=jnp.take_along_axis(population.sample, index, axis=1)[:, 0],
    )
    return where_rows(some, found, Best.none(some.shape[0], rows.tokens.shape[1]))


def outcome(population: Population) -> Outcome:
    """Summarise a population that will not be run further."""
    return Outcome(population.best, leader(population, unfinished), population.usage)


def _charge(population: Population, spent: Spent) -> Population:
    """Move what the rows spent to their prompts' account, so that no cut forgets it."""
    rows = population.rows
    usage = rows.usage.add(
        scorer_passes=spent.passes, scorer_tokens=spent.tokens, flops=spent.flops
    )
    held = jnp.sum(population.per_prompt(rows.cache.length), axis=1)
    batch, depth = population.prompt.batch, usage.histogram.shape[1] - 1
    account = jax.tree.map(jnp.add, population.usage, usage.grouped(batch))
    account = replace(account, peak_cache_tokens=population.usage.peak_cache_tokens).peak(held)
    return replace(
        population,
        rows=replace(rows, usage=Usage.zeros(rows.length.shape[0], depth)),
        usage=account,
    )
