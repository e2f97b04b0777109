"""What the tests of the models run: compiled forward passes and greedy loops."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.cache import truncate
from jaxdecode.lm import extend, prefill
from jaxdecode.prompt import Prompt
from models.transformer import Transformer


@jax.jit
def forward(model: Transformer, tokens: jax.Array, valid: jax.Array) -> jax.Array:
    return model.forward(tokens, valid)[0]


def ragged(model: Transformer, rows: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """Logits of right-padded rows in one batch."""
    valid = np.arange(rows.shape[1]) < np.asarray(lengths)[:, None]
    return np.asarray(forward(model, jnp.asarray(rows), jnp.asarray(valid)))


@partial(jax.jit, static_argnames="new")
def greedy(model: Transformer, prompt: Prompt, new: int) -> jax.Array:
    """i32[B, new]: the most likely token, step by step through the cache."""
    cache, root, _ = prefill(model, prompt, prompt.tokens.shape[1] + new)

    def step(carry, _):
        cache, token = carry
        output = extend(model, token[:, None], cache)
        token = jnp.argmax(output.logits[:, 0], axis=-1).astype(jnp.int32)
        return (truncate(output.cache, cache.length + 1), token), token

    _, tokens = jax.lax.scan(step, (cache, root), length=new)
    return tokens.T
