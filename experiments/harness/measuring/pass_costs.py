"""What a pass costs by its shape: widths to verify, prompts to read, slots in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.harness.measuring.timing import interleaved, medians
from jaxdecode.cache import truncate
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Int

PASSES = 8  # in one program, so that starting it weighs little


@jax.jit
def passes(model: LanguageModel, tokens: Int[Array, "B T"], cache: Any) -> Int[Array, "B T"]:
    """The same T slots filled PASSES times, each with the tokens the last pass preferred."""

    def once(_: int, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        tokens, cache = carry
        output = extend(model, tokens, cache)
        return jnp.argmax(output.logits, axis=2).astype(jnp.int32), output.cache

    return jax.lax.fori_loop(0, PASSES, once, (tokens, cache))[0]


@jax.jit
def read(model: LanguageModel, prompt: Prompt) -> Int[Array, "B"]:
    """The next token of every prompt, from one pass over all of it."""
    batch, width = prompt.tokens.shape
    valid = jnp.arange(width) < prompt.length[:, None]
    cache = model.init_cache(batch, width)
    output = extend(model, prompt.tokens, cache, valid=valid, fresh=True)
    last = jnp.take_along_axis(output.hidden, prompt.length[:, None, None] - 1, axis=1)
    return jnp.argmax(model.unembed(last)[:, 0], axis=1)


def verify(
    model: LanguageModel, batch: int, widths: Sequence[int], held: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Seconds of a pass over n tokens after `held`, for every n, and T(n) / T(1)."""
    cache = model.init_cache(batch, held + max(widths))
    cache = truncate(cache, jnp.full((batch,), held))
    calls = {
        str(n): lambda n=n: passes(model, jnp.zeros((batch, n), jnp.int32), cache) for n in widths
    }
    seconds = medians(interleaved(calls, repeats))
    for n in widths:
        yield {
            "batch": batch,
            "width": n,
            "held": held,
            "ms": 1e3 * seconds[str(n)] / PASSES,
            "relative": seconds[str(n)] / seconds[str(widths[0])],
        }


def capacity(
    model: LanguageModel, batch: int, capacities: Sequence[int], held: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Seconds of a one-token pass after `held` tokens, by the slots that the cache has."""
    one = jnp.zeros((batch, 1), jnp.int32)
    calls = {}
    for slots in capacities:
        cache = model.init_cache(batch, slots)
        cache = truncate(cache, jnp.full((batch,), held))
        calls[str(slots)] = lambda cache=cache: passes(model, one, cache)
    seconds = medians(interleaved(calls, repeats))
    for slots in capacities:
        yield {
            "batch": batch,
            "capacity": slots,
            "held": held,
            "ms": 1e3 * seconds[str(slots)] / PASSES,
            "relative": seconds[str(slots)] / seconds[str(capacities[0])],
        }


def prefill(
    model: LanguageModel, batches: Sequence[int], widths: Sequence[int], repeats: int
) -> Iterator[dict[str, Any]]:
    """Seconds to read prompts at once, as a generator does before its first token and a
    reward model for its score."""
    shapes = [(batch, width) for batch in batches for width in widths]
    prompts = {f"{b}x{w}": Prompt.of([[0] * w] * b, width=w) for b, w in shapes}
    calls = {name: lambda prompt=prompt: read(model, prompt) for name, prompt in prompts.items()}
    seconds = medians(interleaved(calls, repeats))
    for batch, width in shapes:
        taken = seconds[f"{batch}x{width}"]
        yield {
            "batch": batch,
            "width": width,
            "ms": 1e3 * taken,
            "tokens/s": batch * width / taken,
        }
