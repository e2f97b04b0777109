"""A data set through one batch whose rows are never idle for long.

In waves a batch waits for its longest response. Here rows run in segments of some tokens; those
that have ended are read out, and new prompts are prefilled into their places. What a row emits
depends on its prompt, id and seed alone, so that the responses are those of waves.

On what is compiled: one segment, one reading and one refilling for each width of prompts and
size of the cache, of which there are several where the expander's cache grows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.autoregress import capacities
from jaxdecode.cache import put_rows
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import Expander, Rows
from jaxdecode.types import Array, Int, Key

SEGMENTS = 32  # of the longest response
SHARE = 8  # rows are refilled by an eighth of the batch


@runtime_checkable
class Refillable(Protocol):
    """A decoder of one response a prompt, which is what `expander` emits."""

    @property
    def expander(self) -> Expander:
        """What emits the tokens."""
        ...

    def check(self, prompt: Prompt) -> None: ...

    def finish(self, rows: Rows) -> Result:
        """Rows that ran, as a result."""
        ...


def decode_refilled(
    decoder: Refillable,
    key: Key[Array, ""],
    batch: int,
    prompts: Sequence[Sequence[int]],
    ids: Sequence[int],
    width: int,
) -> Iterator[tuple[int, Result]]:
    """(index, result of one row) of more than `batch` prompts, padded to `width`, as they end."""
    expander, waiting = decoder.expander, list(range(len(prompts)))
    sizes = capacities(expander, width)
    share = max(1, batch // SHARE)
    pace = max(1, -(-expander.max_tokens // SEGMENTS))

    def block(chosen: Sequence[int], count: int) -> Prompt:
        """Prompts, filled up with copies of the last."""
        filled = [*chosen, *[chosen[-1]] * (count - len(chosen))]
        made = Prompt.of([prompts[i] for i in filled], [ids[i] for i in filled], width)
        decoder.check(made)
        return made

    first, waiting = waiting[:batch], waiting[batch:]
    rows, size = _start(expander, key, block(first, batch), sizes[0]), sizes[0]
    holds = np.array(first)  # the prompt of each row, -1 for none
    while True:
        rows, ended, stuck = _segment(expander, rows, pace, size)
        ended, stuck = jax.device_get((ended, stuck))
        done = np.flatnonzero(ended & (holds >= 0))
        if len(done):
            results = jax.device_get(_read(decoder, rows))
            for row in done:
                yield int(holds[row]), jax.tree.map(lambda x, row=row: x[row : row + 1], results)
            holds[done] = -1
        while waiting and (holds < 0).sum() >= min(share, len(waiting)):
            chosen, waiting = waiting[:share], waiting[share:]
            free = np.flatnonzero(holds < 0)[: len(chosen)]
            # Copies go past the last row, that is nowhere.
            at = np.concatenate([free, np.full(share - len(chosen), batch)])
            rows = _refill(expander, key, block(chosen, share), rows, at, size)
            holds[free] = chosen
        if (holds < 0).all():
            return
        if stuck:
            size = sizes[sizes.index(size) + 1]
            rows = _grow(expander, rows, size)


@functools.partial(jax.jit, static_argnums=3)
def _start(expander: Expander, key: Key[Array, ""], prompt: Prompt, size: int) -> Rows:
    return expander.start(key, prompt, 1, size)


@functools.partial(jax.jit, static_argnums=2)
def _grow(expander: Expander, rows: Rows, size: int) -> Rows:
    return expander.room(rows, size)


@functools.partial(jax.jit, donate_argnums=1)
def _segment(
    expander: Expander, rows: Rows, pace: Int[Array, ""] | int, size: Int[Array, ""] | int
) -> tuple[Rows, Array, Array]:
    """Run on by `pace` tokens: the rows, which have ended, and whether one needs more room."""
    after = expander.advance(rows, jnp.minimum(rows.total + pace, size))
    return after, ~after.running, jnp.any(after.running & (after.total >= size))


@functools.partial(jax.jit, static_argnums=5, donate_argnums=3)
def _refill(
    expander: Expander,
    key: Key[Array, ""],
    prompt: Prompt,
    rows: Rows,
    at: Int[Array, "F"],
    size: int,
) -> Rows:
    """The rows with new ones in the places `at`; a place past the end is none."""
    return put_rows(rows, expander.start(key, prompt, 1, size), at)


@jax.jit
def _read(decoder: Refillable, rows: Rows) -> Result:
    return decoder.finish(rows)
