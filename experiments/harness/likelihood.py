"""The likelihood of given texts under a model, a few positions of logits at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.lm import LanguageModel, extend
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int

CHUNK = 32  # positions whose logits are held at a time


@jax.jit
def continuations(
    model: LanguageModel, text: Prompt, first: Int[Array, "B"]
) -> tuple[Float[Array, "B"], Bool[Array, "B"]]:
    """Log-probability of tokens first..length-1 of each text after those before them, and
    whether each of them is the most probable one."""
    batch, width = text.tokens.shape
    index = jnp.arange(width - 1)
    output = extend(
        model,
        text.tokens[:, :-1],
        model.init_cache(batch, width - 1),
        valid=index < text.length[:, None] - 1,
        fresh=True,
    )
    counted = (index + 1 >= first[:, None]) & (index + 1 < text.length[:, None])
    count = -(-(width - 1) // CHUNK)

    def chunks(array: Array) -> Array:
        pad = [(0, 0), (0, count * CHUNK - width + 1), *[(0, 0)] * (array.ndim - 2)]
        array = jnp.pad(array, pad).reshape(batch, count, CHUNK, *array.shape[2:])
        return jnp.moveaxis(array, 1, 0)

    def read(carry, block):
        hidden, target, counted = block
        logits = model.unembed(hidden).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, target[..., None], axis=2)[..., 0]
        logprob = chosen - jax.nn.logsumexp(logits, axis=2)
        greedy = (chosen >= jnp.max(logits, axis=2)) | ~counted
        total, all_greedy = carry
        total += jnp.sum(jnp.where(counted, logprob, 0.0), axis=1)
        return (total, all_greedy & jnp.all(greedy, axis=1)), None

    start = (jnp.zeros((batch,), jnp.float32), jnp.ones((batch,), bool))
    blocks = (chunks(output.hidden), chunks(text.tokens[:, 1:]), chunks(counted))
    return jax.lax.scan(read, start, blocks)[0]
