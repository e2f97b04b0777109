"""Reading what was written: the model's own view of hypotheses that it has not seen as such."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode import beam
from jaxdecode.cache import spread, truncate
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Int


def inputs(prompt: Prompt, texts: Int[Array, "B ... L"]) -> Int[Array, "B ... L"]:
    """What a pass reads to predict the tokens of texts: the last prompt token first."""
    last = jnp.take_along_axis(prompt.tokens, prompt.length[:, None] - 1, axis=1)
    last = jnp.broadcast_to(last.reshape(-1, *[1] * (texts.ndim - 1)), (*texts.shape[:-1], 1))
    return jnp.concatenate([last, texts[..., :-1]], axis=-1)


def reread(model: LanguageModel, prompt: Prompt, search: beam.Search) -> beam.Search:
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
