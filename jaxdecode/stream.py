"""Tokens as they come: the autoregressive engine in chunks, for someone who is reading.

The rows stay on the device and are donated from chunk to chunk, so nothing is copied but the
new tokens. Decoding in chunks changes no token: rows are run on where they paused.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.autoregress import capacities
from jaxdecode.prompt import Prompt
from jaxdecode.ranges import seeded
from jaxdecode.result import Status
from jaxdecode.rows import Expander, Rows, check_start
from jaxdecode.types import Array, Int, Key


class Piece(NamedTuple):
    """What one chunk added.

    Attributes:
      tokens: the new tokens of each row, i32[n] with its own n, which may be 0.
      status: i8[B], see `Status`.
    """

    tokens: list[np.ndarray]
    status: np.ndarray


def stream(
    generator: Expander, key: Key[Array, ""] | int, prompt: Prompt, every: int = 8
) -> Iterator[Piece]:
    """Decode every prompt once, yielding up to `every` tokens of each row at a time.

    The tokens are those of `autoregress.generate` with the same key. What is compiled depends
    on shapes and `every` alone, one program for each size of the cache; on a mesh, whose
    compiler lays out the first rows as it likes, one more. Stop reading to stop decoding.

    Raises:
      ValueError: at the call, for `every` or prompts that cannot be run.
    """
    if every < 1:
        raise ValueError(f"every={every}: a chunk has at least one token")
    check_start(generator, prompt)
    return _pieces(generator, seeded(key), prompt, every)


def _pieces(
    generator: Expander, key: Key[Array, ""], prompt: Prompt, every: int
) -> Iterator[Piece]:
    sizes = capacities(generator, prompt.tokens.shape[1])
    rows = _start(generator, key, prompt, sizes[0])
    for size in sizes:
        rows = _grow(generator, rows, size) if size != sizes[0] else rows
        while True:
            rows, fresh, count, more = _chunk(generator, rows, every, size)
            fresh, count, status, more = jax.device_get((fresh, count, rows.status, more))
            yield Piece([row[:n] for row, n in zip(fresh, count, strict=True)], status)
            if not more:
                break
        if (status != Status.RUNNING).all():
            return


@functools.partial(jax.jit, static_argnums=3)
def _start(generator: Expander, key: Key[Array, ""], prompt: Prompt, capacity: int) -> Rows:
    return generator.start(key, prompt, 1, capacity)


@functools.partial(jax.jit, static_argnums=2)
def _grow(generator: Expander, rows: Rows, capacity: int) -> Rows:
    return generator.room(rows, capacity)


@functools.partial(jax.jit, static_argnums=2, donate_argnums=1)
def _chunk(
    generator: Expander, rows: Rows, every: int, size: Int[Array, ""] | int
) -> tuple[Rows, Int[Array, "R every"], Int[Array, "R"], Array]:
    """Run on by up to `every` tokens: the rows, those tokens, their number, whether more fit."""
    after = generator.advance(rows, jnp.minimum(rows.total + every, size))
    at = jnp.minimum(rows.length[:, None] + jnp.arange(every), after.tokens.shape[1] - 1)
    fresh = jnp.take_along_axis(after.tokens, at, axis=1)
    more = jnp.any(after.running & (after.total < size))
    return after, fresh, after.length - rows.length, more
