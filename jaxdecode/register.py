"""The best response of each prompt so far, and what is reported when a population is done."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.result import Result, Status, Usage
from jaxdecode.rows import Expander, where_rows
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Best:
    """The best completed response of each prompt so far."""

    score: Float[Array, "B"]
    tokens: Int[Array, "B L"]
    length: Int[Array, "B"]
    logprob: Float[Array, "B"]
    status: Int[Array, "B"]
    sample: Int[Array, "B"]

    @classmethod
    def none(cls, batch: int, width: int) -> Best:
        """Nobody yet, for B prompts."""
        return cls(
            score=jnp.full((batch,), -jnp.inf),
            tokens=jnp.zeros((batch, width), jnp.int32),
            length=jnp.zeros((batch,), jnp.int32),
            logprob=jnp.zeros((batch,), jnp.float32),
            status=jnp.full((batch,), Status.INVALID, jnp.int8),
            sample=jnp.full((batch,), -1, jnp.int32),
        )

    def or_better(self, other: Best) -> Best:
        """Row by row the better of two; on a tie the lower sample, whichever came first."""
        tie = (other.score == self.score) & (other.sample < self.sample)
        better = (other.score > self.score) | tie | (self.sample < 0)
        better &= other.sample >= 0
        return where_rows(better, other, self)


@struct.dataclass
class Outcome:
    """What is left of a population when it is done.

    Attributes:
      best: the best completed response of each prompt.
      rest: the best of those still running, for prompts where none was completed.
      usage: what it took.
    """

    best: Best
    rest: Best
    usage: Usage


def merge(waves: Outcome) -> Outcome:
    """One outcome of W that ran one after the other, stacked on the first axis.

    Costs add up. The prompt is the same one, and so is the memory that the waves took in turn.
    """

    def best(stacked: Best) -> Best:
        each = map(functools.partial(_index, stacked), range(stacked.score.shape[0]))
        return functools.reduce(Best.or_better, each)

    usage = replace(
        jax.tree.map(lambda x: x.sum(0), waves.usage),
        prompt_tokens=waves.usage.prompt_tokens.max(0),
        peak_cache_tokens=waves.usage.peak_cache_tokens.max(0),
    )
    return Outcome(best(waves.best), best(waves.rest), usage)


def chosen(outcome: Outcome) -> Best:
    """The best completed response of each prompt.

    Where nothing was completed, the best unfinished one with status BUDGET; where no
    hypothesis has a usable score, an empty row with status INVALID.
    """
    unfinished = jnp.where(outcome.rest.sample >= 0, Status.BUDGET, Status.INVALID)
    rest = replace(outcome.rest, status=unfinished.astype(jnp.int8))
    return where_rows(outcome.best.sample >= 0, outcome.best, rest)


def finish(generator: Expander, outcome: Outcome, trace: Any = None) -> Result:
    """The chosen responses as the result."""
    best = chosen(outcome)
    return Result(
        tokens=best.tokens,
        length=best.length,
        logprob=best.logprob,
        status=best.status,
        usage=outcome.usage.priced(generator.model.cost),
        trace=trace,
    )


def _index(tree: Best, at: int) -> Best:
    return jax.tree.map(lambda x: x[at], tree)
