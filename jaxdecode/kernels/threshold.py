"""TPU kernel: bisection for a threshold, with whole rows in fast memory.

The halvings of `jaxdecode.logits.threshold` each pass over the vocabulary. As a loop of the
compiler's they read two arrays from memory in every turn; here eight rows are read once, as they
lie, and all halvings are done on them.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxdecode.kernels.store import LANES
from jaxdecode.types import Array, Float, Int

ROWS, CHUNK = 8, 16 * LANES  # rows that are held together, columns that are looked at together
MEMORY = 48 * 2**20  # of fast memory, which a vocabulary of a quarter million tokens fits in


def threshold(
    key: Int[Array, "R V"],
    weight: Float[Array, "R V"] | None,
    target: Float[Array, "R"],
    interpret: bool = False,
) -> Int[Array, "R"]:
    """The largest t such that the weight of {key >= t} is at least the target, or the least key.

    Without weights every one is 1.
    """
    count, vocab = key.shape
    rows = min(ROWS, count)
    arrays = (key,) if weight is None else (key, weight)
    bounds = (jnp.min(key, axis=1), jnp.max(key, axis=1) + 1, target.astype(jnp.float32))
    held = pl.BlockSpec((rows, vocab), lambda i: (i, 0), pipeline_mode=pl.Buffered(1))
    column = pl.BlockSpec((rows, 1), lambda i: (i, 0))
    out = pl.pallas_call(
        functools.partial(_bisect, vocab=vocab),
        grid=(-(-count // rows),),
        in_specs=[column] * len(bounds) + [held] * len(arrays),
        out_specs=column,
        out_shape=jax.ShapeDtypeStruct((count, 1), jnp.int32),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel",), vmem_limit_bytes=MEMORY
        ),
        interpret=interpret,
        name="bisect_threshold",
    )(*(bound[:, None] for bound in bounds), *arrays)
    return out[:, 0]


def _bisect(low, high, target, key, *refs, vocab: int) -> None:
    *weight, out = refs
    chunk = min(CHUNK, vocab)
    chunks, rest = divmod(vocab, chunk)

    def halve(_, ends):
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow

        def kept(at):
            one = weight[0][at] if weight else jnp.ones((key.shape[0], at[1].size), jnp.float32)
            return jnp.where(key[at] >= middle, one, 0.0)

        def add(number, mass):
            return mass + kept((slice(None), pl.ds(pl.multiple_of(number * chunk, chunk), chunk)))

        mass = jnp.zeros((key.shape[0], chunk), jnp.float32)
        mass = jnp.sum(jax.lax.fori_loop(0, chunks, add, mass), axis=1, keepdims=True)
        if rest:
            last = kept((slice(None), pl.ds(chunks * chunk, rest)))
            mass += jnp.sum(last, axis=1, keepdims=True)
        ample = mass >= target[...]
        return jnp.where(ample, middle, low), jnp.where(ample, high, middle)

    out[...], _ = jax.lax.fori_loop(0, 32, halve, (low[...], high[...]))
