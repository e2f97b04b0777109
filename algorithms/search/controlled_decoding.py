"""Controlled decoding, CD (Mudgal et al. 2024, arXiv 2310.17022).

A value of prefixes, V(s) = E r under the reference p, steers p towards the reward:

    token by token    z ~ p(z | s) exp(V([s, z]) / alpha)
    block by block    K blocks of M tokens from p; the one of highest V is kept

until the block that is kept ends the text. V is a model with an output for every next token,
trained by FUDGE or CD-Q (`jaxdecode.train.values`), or, as `monte_carlo` (CD--), the mean reward
of completions that the reference itself writes. Several rewards are steered by at once through
scorers added up.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator, finish
from jaxdecode.cache import gather
from jaxdecode.guide import Guided, charge
from jaxdecode.lm import LanguageModel
from jaxdecode.prefix_values import NextValues, fitted
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status, Usage
from jaxdecode.rollouts import Rollouts, scored
from jaxdecode.rows import Rows, check_start
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Float, Key


def tokenwise(
    generator: Generator,
    value: LanguageModel,
    alpha: Float[Array, ""] | float = 1.0,
    candidates: int = 10,
) -> Guided:
    """CD token by token with a trained value; 1 / alpha is the paper's lambda."""
    return Guided(generator, NextValues(value), candidates, alpha)


def monte_carlo(
    generator: Generator,
    scorer: Scorer,
    alpha: Float[Array, ""] | float = 1.0,
    candidates: int = 10,
    samples: int = 4,
    horizon: int | None = None,
) -> Guided:
    """CD--: values are mean rewards of the reference's own rollouts; see `Rollouts`."""
    rollouts = Rollouts(scorer, samples=samples, horizon=horizon)
    return Guided(generator, rollouts, candidates, alpha)


def divergence_bound(samples: int, blocks: float = 1.0) -> float:
    """What KL best-of-K adds at most, in nats: log K - (K - 1) / K a block."""
    if samples < 1:
        raise ValueError(f"samples={samples}: at least one is needed")
    return blocks * (math.log(samples) - (samples - 1) / samples)


class _Run(NamedTuple):
    rows: Rows
    scorer: Any
    score: Float[Array, "B"]
    usage: Usage


@struct.dataclass
class Blockwise:
    """Best-of-K of blocks; the trace is the score of the text, f32[B], as of its last block.

    Attributes:
      generator: how blocks are drawn.
      scorer: V of a text, finished or not: `PrefixValue` of a trained value, or any other.
      samples: static, K.
      block: static, M.
    """

    generator: Generator
    scorer: Scorer
    samples: int = struct.field(pytree_node=False, default=6)
    block: int = struct.field(pytree_node=False, default=32)

    def __post_init__(self) -> None:
        for name in ("samples", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        generator, batch = self.generator, prompt.batch
        capacity = prompt.tokens.shape[1] + generator.max_tokens
        rows = generator.start(key, prompt, self.samples, capacity)
        state, spent = self.scorer.init(prompt, self.samples)
        usage = scored(rows.usage.grouped(batch), spent)
        rows = replace(rows, usage=Usage.zeros(batch * self.samples))
        run = jax.lax.while_loop(
            lambda run: jnp.any(run.rows.running),
            lambda run: self._block(prompt, run, capacity),
            _Run(rows, fitted(state, capacity), jnp.zeros((batch,)), usage),
        )
        first = jnp.zeros((batch, 1), jnp.int32)
        rows = replace(gather(replace(run.rows, usage=()), first), usage=run.usage)
        return finish(generator, rows, run.score)

    def _block(self, prompt: Prompt, run: _Run, capacity: int) -> _Run:
        batch, count = prompt.batch, self.samples
        before = run.rows.running.reshape(batch, count)[:, 0]
        rows = self.generator.advance(run.rows, run.rows.total + self.block)
        held = jnp.sum(rows.cache.length.reshape(batch, count), axis=1)
        raw, state, spent = self.scorer.score(run.scorer, prompt, rows, self.block)
        usable = rows.status != Status.INVALID
        fault = usable & ~jnp.isfinite(raw)
        score = jnp.where(usable & ~fault, raw, -jnp.inf).reshape(batch, count)
        cost = scored(rows.usage.add(invalid=fault.astype(jnp.int32)).grouped(batch), spent)
        cost = replace(cost, peak_cache_tokens=held)
        best = jnp.argmax(score, axis=1)[:, None]
        top = jnp.max(score, axis=1)
        # The one that is kept is copied to all places, which go on with keys of their own.
        copied = jnp.broadcast_to(best, (batch, count))
        kept = gather(replace(rows, usage=()), copied)
        lost = jnp.repeat(~jnp.isfinite(top) & before, count)
        status = jnp.where(lost, Status.INVALID, kept.status).astype(jnp.int8)
        kept = replace(kept, status=status, key=rows.key, usage=Usage.zeros(batch * count))
        state = fitted(gather(state, copied), capacity)
        return _Run(kept, state, jnp.where(before, top, run.score), charge(run.usage, cost, before))
