"""TPU kernel: bisection for a threshold, with the whole row in fast memory.

The halvings of `jaxdecode.logits.threshold` each pass over the vocabulary. As a loop of the
compiler's they read two arrays from memory at half its width and wait for two small operations
in every turn; here a row is read once.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxdecode.kernels.store import LANES
from jaxdecode.types import Array, Float, Int

CHUNK = 16 * LANES  # columns of the eight that a row is read in at a time
LEAST = -(2**31)


def threshold(
    key: Int[Array, "R V"],
    weight: Float[Array, "R V"] | None,
    target: Float[Array, "R"],
    interpret: bool = False,
) -> Int[Array, "R"]:
    """The largest t such that the weight of {key >= t} is at least the target, or the least key.

    Without weights every one is 1. Keys are above the least int32.
    """
    rows, vocab = key.shape
    chunk = min(CHUNK, -(-vocab // 8 // LANES) * LANES)
    more = ((0, 0), (0, -vocab % (8 * chunk)))

    def tiled(array: Array, fill: int) -> Array:
        return jnp.pad(array, more, constant_values=fill).reshape(rows, 8, -1)

    arrays = [tiled(key, LEAST)] + ([] if weight is None else [tiled(weight, 0)])
    bounds = jnp.stack([jnp.min(key, axis=1), jnp.max(key, axis=1) + 1], axis=1)
    row = pl.BlockSpec((None, *arrays[0].shape[1:]), lambda i, *_: (i, 0, 0))
    out = pl.pallas_call(
        functools.partial(_bisect, chunk=chunk),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(rows,),
            in_specs=[row] * len(arrays),
            out_specs=pl.BlockSpec((None, 1, LANES), lambda i, *_: (i, 0, 0)),
        ),
        out_shape=jax.ShapeDtypeStruct((rows, 1, LANES), jnp.int32),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        interpret=interpret,
        name="bisect_threshold",
    )(bounds, target.astype(jnp.float32), *arrays)
    return out[:, 0, 0]


def _bisect(bounds, target, key, *refs, chunk: int) -> None:
    *weight, out = refs
    row = pl.program_id(0)

    def halve(_, ends):
        low, high = ends
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow

        def add(number, mass):
            at = (slice(None), pl.ds(pl.multiple_of(number * chunk, chunk), chunk))
            one = weight[0][at] if weight else jnp.ones(mass.shape)
            return mass + jnp.where(key[at] >= middle, one, 0.0)

        mass = jax.lax.fori_loop(0, key.shape[1] // chunk, add, jnp.zeros((8, chunk)))
        ample = jnp.sum(mass) >= target[row]
        return jnp.where(ample, middle, low), jnp.where(ample, high, middle)

    low, _ = jax.lax.fori_loop(0, 32, halve, (bounds[row, 0], bounds[row, 1]))
    out[...] = jnp.full(out.shape, low, jnp.int32)
