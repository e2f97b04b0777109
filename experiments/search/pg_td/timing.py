"""How fast a planning search is, and how much of its time the model has."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from algorithms.search.pg_td import PlanningGuided
from experiments.search.pg_td.setting import Setting, alone
from jaxdecode.decoder import decode
from jaxdecode.lm import View
from jaxdecode.nodes import start
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array
from models.presets import small
from models.transformer import Transformer

RUNS = 6
LARGE = (768, 12)  # width and layers


def speeds(here: Setting) -> dict[str, float]:
    """One problem's search, by the model itself and by one of `LARGE` with random weights."""
    hidden, layers = LARGE
    config = small(here.model.vocab_size, hidden=hidden, layers=layers)
    large = replace(here, model=Transformer(config, rngs=nnx.Rngs(0)))
    return _speed(here, "the model") | _speed(large, "a model of 78 M")


def _speed(here: Setting, told: str) -> dict[str, float]:
    """Rollouts a second, and shares of time outside the model.

    The model's time is that of as many calls, of the same shapes, in a loop of its own; the
    tests' is taken where they run, with all programs new. By turns, and the best of each: others
    may be using the machine.
    """
    one = alone(here)
    search, prompt = one.planner(0), one.prompt(0, 1)
    result = jax.device_get(decode(search, 0, prompt))
    calls = jnp.int32(result.usage.target_passes[0] - 1)  # the first one reads the prompt
    jax.block_until_ready(_model_alone(search, prompt, calls))
    searches, models, tests = [], [], []
    for _ in range(RUNS):
        one.judge.known.clear()
        one.judge.seconds = 0.0
        begun = time.perf_counter()
        jax.block_until_ready(decode(search, 0, prompt))
        searches.append(time.perf_counter() - begun)
        tests.append(one.judge.seconds)
        begun = time.perf_counter()
        jax.block_until_ready(_model_alone(search, prompt, calls))
        models.append(time.perf_counter() - begun)
    seconds = min(searches)
    return {
        f"rollouts/s by {told}": float((result.trace.note.trail[0] >= 0).sum()) / seconds,
        f"outside {told}, %": 100 * (1 - min(models) / seconds),
        f"in the tests, by {told}, %": 100 * min(tests) / seconds,
    }


@jax.jit
def _model_alone(search: PlanningGuided, prompt: Prompt, calls: Array) -> Array:
    """The prompt and `calls` tokens after it."""
    engine = search.search
    own = engine.expander
    arena = start(
        own.model, own.transform, prompt, own.max_tokens, own.depth, engine.nodes, engine.slots
    )
    width = prompt.tokens.shape[1]

    def call(at: Array, carry: Any) -> Any:
        cache, total = carry
        slots = jnp.arange(cache.capacity)
        view = View(
            position=cache.length[:, None],
            start=width + at % engine.slots + jnp.zeros((1,), jnp.int32),
            prefix=cache.length,
            valid=jnp.ones((1, 1), bool),
            beyond=jnp.broadcast_to(slots % 7 == 0, (1, 1, cache.capacity)),
        )
        output = own.model(jnp.full((1, 1), 3), cache, view)
        return output.cache, total + output.logits.sum()

    return jax.lax.fori_loop(0, calls, call, (arena.cache, jnp.zeros(())))[1]
