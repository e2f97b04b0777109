"""What canvases have to show after a pass, as rows: tokens, status and counts.

A response is what stands behind the prompt up to its first end that has nothing undecided
before it; the tokens decided behind it were decided in vain and count as truncated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.cache import put, truncate
from jaxdecode.canvas import Canvas, places
from jaxdecode.result import Status
from jaxdecode.rows import Rows, where_rows
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Int


def settle(
    rows: Rows,
    canvas: Canvas,
    acting: Bool[Array, "R"],
    lost: Bool[Array, "R"],
    stop: StopRule,
    budget: Int[Array, ""] | int,
    *,
    closes: bool,
    infill: bool,
) -> Rows:
    """The rows with this canvas; those that acted show their tokens and may have ended.

    Args:
      lost: acting rows whose logits were unusable.
      budget: passes beyond which a row ends unfinished.
      closes: an end in the finished prefix ends a row.
      infill: the places to fill are listed, and no end is looked for.
    """
    longest = rows.tokens.shape[1]
    tokens, at, lead, ends = (listed if infill else spelled)(canvas, rows, stop)
    ended = jnp.any(ends, axis=1)
    whole = ~jnp.any(canvas.open, axis=1)
    over = whole | ended if closes else whole
    first = jnp.where(ended, 1 + jnp.argmax(ends, axis=1), lead)
    status = jnp.where(canvas.passes >= budget, Status.BUDGET, Status.RUNNING)
    status = jnp.where(over, jnp.where(ended, Status.EOS, Status.LENGTH), status)
    status = jnp.where(lost, Status.INVALID, status)
    # A row that goes on is as long as its places are decided, ends or not.
    length = jnp.where(status == Status.RUNNING, lead, first).astype(jnp.int32)
    inside = jnp.arange(longest) < length[:, None]
    shown = jnp.zeros(canvas.tokens.shape, bool)
    shown = put(shown, jnp.where(inside, at, canvas.width), inside) & (canvas.decided >= 0)
    # What was cut off reads as ends: the first of them is emitted, and was decided by the cut.
    implied = jnp.sum(
        inside & ~jnp.take_along_axis(shown, jnp.clip(at, 0, canvas.width - 1), axis=1), axis=1
    )
    emitted = length - rows.length
    bonus = canvas.commits - rows.speculation.commits + implied
    usage = rows.usage.add(
        emitted=emitted,
        bonus=bonus,
        truncated=bonus - emitted,
        invalid=lost.astype(jnp.int32),
    )
    tokens = jnp.where(inside, tokens, 0)
    newest = jnp.take_along_axis(tokens, jnp.maximum(length - 1, 0)[:, None], axis=1)[:, 0]
    shows = replace(
        rows,
        tokens=tokens,
        length=length,
        status=status.astype(jnp.int8),
        logprob=jnp.sum(jnp.where(shown, canvas.logprob, 0.0), axis=1),
        root=jnp.where(length > 0, newest, rows.root),
        meter=summed(canvas.meter, shown),
        usage=usage,
        cache=(),
        speculation=(),
    )
    kept = where_rows(acting, shows, replace(rows, cache=(), speculation=()))
    return replace(kept, cache=truncate(rows.cache, canvas.limit), speculation=canvas)


def spelled(canvas: Canvas, rows: Rows, stop: StopRule) -> tuple[Array, Array, Array, Array]:
    """The responses, their places, how far nothing is undecided, and where ends stand there.

    Places past the limit read as the first end token, and are decided once all before them are.
    """
    longest, eos = rows.tokens.shape[1], stop.eos
    at = places(rows.prompt_length, longest)
    pad = eos[0] if eos.shape[0] else 0
    tokens = jnp.where(at >= canvas.limit[:, None], pad, canvas.window(canvas.tokens, at))
    open = canvas.window(canvas.open, at)
    lead = jnp.where(jnp.any(open, axis=1), jnp.argmax(open, axis=1), longest)
    counts = 1 + jnp.arange(longest)
    ends = jax.vmap(lambda n: stop(tokens, jnp.full_like(lead, n)))(counts).T
    return tokens, at, lead, ends & (counts <= lead[:, None])


def listed(canvas: Canvas, rows: Rows, stop: StopRule) -> tuple[Array, Array, Array, Array]:
    """As `spelled`, of the places to fill in their order, which have no end among them."""
    longest = rows.tokens.shape[1]
    order = jnp.argsort(~canvas.fill, axis=1, stable=True)[:, :longest]
    count = jnp.sum(canvas.fill, axis=1)
    at = jnp.where(jnp.arange(longest) < count[:, None], order, canvas.width)
    lead = jnp.where(jnp.any(canvas.open, axis=1), 0, count)
    return canvas.window(canvas.tokens, at), at, lead, jnp.zeros(at.shape, bool)


def summed(meter: Any, counted: Bool[Array, "R C"]) -> Any:
    """The states of a meter that adds up, over the counted places."""

    def total(leaf: Array) -> Array:
        mask = counted.reshape(*counted.shape, *[1] * (leaf.ndim - 2))
        return jnp.sum(jnp.where(mask, leaf, jnp.zeros((), leaf.dtype)), axis=1)

    return jax.tree.map(total, meter)
