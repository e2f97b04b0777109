"""Reading what was written: the model's own view of hypotheses that it has not seen as such, and
a search that goes on from one of them."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode.beam_state import Search
from jaxdecode.cache import spread, truncate
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Float, Int


def inputs(prompt: Prompt, texts: Int[Array, "B ... L"]) -> Int[Array, "B ... L"]:
    """What a pass reads to predict the tokens of texts: the last prompt token first."""
    last = jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)
    last = jnp.broadcast_to(last.reshape(-1, *[1] * (texts.ndim - 1)), (*texts.shape[:-1], 1))
    return jnp.concatenate([last, texts[..., :-1]], axis=-1)


def reread(model: LanguageModel, prompt: Prompt, search: Search) -> Search:
    """A search of one group with the log-probabilities of its finished hypotheses under the
    model, read in one pass over all of them on the cache of the prompt."""
    texts, length = search.finished.tokens[:, 0], search.finished.length[:, 0]
    flat = inputs(prompt, texts).reshape(-1, texts.shape[2])
    inside = jnp.arange(texts.shape[2]) < length[..., None]
    cache = spread(truncate(search.cache, prompt.length - 1), texts.shape[1])
    output = extend(model, flat, cache, valid=inside.reshape(flat.shape))
    raw = jax.nn.log_softmax(output.logits, axis=2).reshape(*texts.shape, -1)
    own = jnp.take_along_axis(raw, texts[..., None], axis=3)[..., 0]
    logprob = jnp.sum(jnp.where(inside, own, 0.0), axis=2)[:, None]
    seen = length * (prompt.length[:, None] - 1) + length * (length + 1) / 2.0
    return replace(
        search,
        finished=replace(search.finished, logprob=logprob),
        usage=search.usage.add(
            target_passes=jnp.any(length > 0, axis=1).astype(jnp.int32),
            target_tokens=jnp.sum(length, axis=1),
            attended=jnp.sum(seen, axis=1),
        ).peak(jnp.sum(prompt.length[:, None] - 1 + length, axis=1)),
    )


def restarted(
    model: LanguageModel, prompt: Prompt, search: Search, drawn: Int[Array, "B"], count: int
) -> Search:
    """A search of one group that goes on from one hypothesis of each prompt alone, whose last
    `count` tokens take their places in the cache."""
    row = drawn[:, None]
    text = jnp.take_along_axis(search.tokens[:, 0], row[..., None], axis=1)[:, 0]
    before = prompt.length - 1 + search.step - count
    tokens = jnp.take(inputs(prompt, text), search.step - count + jnp.arange(count), axis=1)
    valid = jnp.broadcast_to(search.active[:, None], tokens.shape)
    output = extend(model, tokens, truncate(search.cache, before), valid=valid)

    def first(array: Float[Array, "B 1 K"]) -> Float[Array, "B 1 K"]:
        own = jnp.take_along_axis(array[:, 0], row, axis=1)
        return jnp.where(jnp.arange(array.shape[2]) == 0, own, -jnp.inf)[:, None]

    active = search.active.astype(jnp.int32)
    return replace(
        search,
        tokens=jnp.broadcast_to(text[:, None, None], search.tokens.shape),
        score=first(search.score),
        logprob=first(search.logprob),
        root=jnp.broadcast_to(jnp.take_along_axis(search.root, row, axis=1), search.root.shape),
        cache=output.cache,
        usage=search.usage.add(
            target_passes=active,
            target_tokens=active * count,
            attended=active * count * (before + (count + 1) / 2.0),
        ),
    )
