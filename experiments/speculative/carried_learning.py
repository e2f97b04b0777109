"""Runs in which what a drafter has learned goes from one decode to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from algorithms.speculative.learning import Learning
from experiments import zoo
from experiments.speculative.speculation import Counts, Field, counts, library, problems
from jaxdecode.decoder import decode
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.speculate import Speculator, play
from jaxdecode.types import Array, Key

Build = Callable[[Any], Speculator]
"""What was learned -> a speculator that starts from it."""


def field_of(task: str, prompts: int, max_tokens: int, split: str = "test") -> Field:
    """A field of the zoo's target of a task, for methods that need no draft model."""
    target = zoo.load(task)
    chosen = {"stdlib": library, "arithmetic": problems}[task](target.tokenizer, prompts, split)
    ends = (target.tokenizer.eos_id,)
    return Field(task, target.model, target.model, ends, tuple(chosen), max_tokens)


def relay(
    build: Build,
    memory: Any,
    kept: Callable[[Any], Any],
    prompts: Sequence[Prompt],
    seed: int = 0,
) -> tuple[list[Counts], list[Any]]:
    """Decode prompt after prompt, each starting from what the one before has learned.

    Args:
      memory: to start from.
      kept: what is handed on of a drafter's final state.
    Returns:
      counts: of each prompt, a batch being one.
      states: the drafter's after each, all of it.
    """
    found, states = [], []
    for prompt in prompts:
        result = decode(Learning(build(memory)), seed, prompt)
        found.append(counts([result], prompt.batch))
        states.append(result.trace)
        memory = kept(result.trace)
    return found, states


def per_call(found: Sequence[Counts]) -> float:
    """Emitted tokens for each pass of the target over several runs."""
    return float(sum(c.emitted.sum() for c in found) / sum(c.passes.sum() for c in found))


def by_prompt(found: Sequence[Counts]) -> dict[str, list[int]]:
    """Counts of each prompt over several runs of one prompt, or of the same prompts each."""
    each = [counts.by_prompt() for counts in found]
    alone = all(len(counts.emitted) == 1 for counts in found)
    join = np.concatenate if alone else partial(np.sum, axis=0)
    return {name: join([one[name] for one in each]).tolist() for name in each[0]}


@jax.jit
def begin(speculator: Speculator, key: Key[Array, ""], prompt: Prompt) -> Rows:
    """The prompts, read."""
    return speculator.start(key, prompt, 1, prompt.tokens.shape[1] + speculator.max_tokens)


@jax.jit
def one_round(speculator: Speculator, rows: Rows) -> Rows:
    """A round on every row that runs."""
    until = jnp.full_like(rows.length, rows.cache.capacity - speculator.drafter.nodes)
    return play(speculator, rows, rows.running & (rows.total < until), until)


def by_round(speculator: Speculator, prompt: Prompt, seed: int = 0) -> NDArray[np.float64]:
    """Tokens that each round emits in each row, f64[rounds, rows]; NaN in rows that have ended."""
    rows = begin(speculator, jax.random.key(seed), prompt)
    found = []
    while bool((running := np.asarray(rows.running)).any()):
        after = one_round(speculator, rows)
        gained = np.asarray(after.length) - np.asarray(rows.length)
        found.append(np.where(running, gained, np.nan))
        rows = after
    return np.array(found)
