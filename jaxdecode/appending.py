"""The text's side of a step: a token is appended, whoever ran the model and however.

Neither the cache nor what running the model cost changes here.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from jaxdecode.cache import put
from jaxdecode.logits import LogitsTransform, noted
from jaxdecode.meter import Meter, measure
from jaxdecode.result import Status
from jaxdecode.rows import Rows
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int
from jaxdecode.whole import on_whole_rows


@runtime_checkable
class Ways(Protocol):
    """How a token is taken note of; the fields are `Generator`'s."""

    @property
    def transform(self) -> LogitsTransform: ...

    @property
    def stop(self) -> StopRule: ...

    @property
    def meter(self) -> Meter:
        """What is measured of the logits that tokens are counted under."""
        ...


def append(
    generator: Ways,
    rows: Rows,
    active: Bool[Array, "R"],
    raw: Float[Array, "R V"],
    drawn: Int[Array, "R"],
    measured: tuple[Array, Any] | None = None,
) -> Rows:
    """Emit the token `drawn` on every active row, -1 for an unusable one.

    `raw` are the logits of the model that the token is counted under; `measured` is what
    `measure` made of them, where that is known already.
    """
    if measured is None:
        of, rest = functools.partial(measure, generator.meter), (rows.root, active, rows.meter)
        logprob, meter = on_whole_rows(of, raw, drawn, *rest)
    else:
        logprob, meter = measured
    usable = drawn >= 0  # a sampler returns -1 where no token has probability
    emits = active & usable
    token = jnp.where(emits, drawn, rows.root)

    at = jnp.where(emits, rows.length, rows.tokens.shape[1])
    tokens = put(rows.tokens, at[:, None], token[:, None])
    length = rows.length + emits
    full = length >= rows.tokens.shape[1]
    status = jnp.where(emits & full, Status.LENGTH, rows.status)
    status = jnp.where(emits & generator.stop(tokens, length), Status.EOS, status)
    status = jnp.where(active & ~usable, Status.INVALID, status)
    return replace(
        rows,
        tokens=tokens,
        length=length,
        status=status.astype(jnp.int8),
        logprob=rows.logprob + jnp.where(emits, logprob, 0.0),
        root=token,
        transform=noted(generator.transform, rows.transform, raw, token, emits),
        meter=meter,
        usage=rows.usage.add(
            emitted=emits.astype(jnp.int32),
            bonus=emits.astype(jnp.int32),
            invalid=(active & ~usable).astype(jnp.int32),
        ),
    )
