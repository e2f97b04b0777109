"""Laws of the next token by context: the mean of those observed, cut to the likeliest tokens.

The k-th observation of a context enters with weight 1/k and leaves 1 - 1/k to what was known,
a token that one of them lacks counting 0 there, after which the largest K remain. As long as
nothing is cut the entry is the plain mean.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.ngram.table import FREE, Entry, Table, combine
from jaxdecode.types import Array, Bool, Float, Int


def contexts(newest: Int[Array, "... n"], orders: tuple[int, ...]) -> Int[Array, "... O n"]:
    """The last o tokens for each order o, with FREE in front."""
    place = jnp.arange(newest.shape[-1])
    own = place >= newest.shape[-1] - jnp.array(orders)[:, None]
    return jnp.where(own, newest[..., None, :], FREE)


def complete(newest: Int[Array, "... n"], orders: tuple[int, ...]) -> Bool[Array, "... O"]:
    """Whether the text has as many tokens; before its beginning they are negative."""
    return jnp.stack([newest[..., -order] >= 0 for order in orders], axis=-1)


def longest(table: Table, newest: Int[Array, "B Q n"], orders: tuple[int, ...]) -> Entry:
    """The entries of the longest contexts that are known; `orders` fall."""
    batch, queries, size = newest.shape
    keys = contexts(newest, orders)
    found = table.read(keys.reshape(batch, queries * len(orders), size))
    count = jnp.where(complete(newest, orders), found.count.reshape(keys.shape[:3]), 0)
    chosen = jnp.argmax(count > 0, axis=2)[..., None]

    def pick(array: Array) -> Array:
        array = array.reshape(batch, queries, len(orders), -1)
        return jnp.take_along_axis(array, chosen[..., None], axis=2)[:, :, 0]

    there = jnp.any(count > 0, axis=2)
    return Entry(
        tokens=jnp.where(there[..., None], pick(found.tokens), FREE),
        values=jnp.where(there[..., None], pick(found.values), 0.0),
        count=jnp.where(there, pick(found.count)[..., 0], 0),
    )


def fold(
    table: Table,
    newest: Int[Array, "B n"],
    law: tuple[Int[Array, "B K"], Float[Array, "B K"]],
    valid: Bool[Array, "B"],
    orders: tuple[int, ...],
) -> Table:
    """Add one observation a table: the likeliest tokens and their probabilities after a context,
    under all its orders."""
    keys = contexts(newest, orders)
    held = table.read(keys)
    kept = (held.count / (held.count + 1.0))[..., None]
    tokens, values = (jnp.broadcast_to(x[:, None], held.tokens.shape) for x in law)
    tokens, values = combine(
        jnp.concatenate([held.tokens, tokens], axis=2),
        jnp.concatenate([kept * held.values, (1 - kept) * values], axis=2),
        held.tokens.shape[2],
    )
    entry = Entry(tokens, values, held.count + 1)
    return table.write(keys, entry, valid[:, None] & complete(newest, orders))


def likeliest(
    law: Float[Array, "B V"], width: int
) -> tuple[Int[Array, "B K"], Float[Array, "B K"]]:
    """The most probable tokens and their probabilities; FREE and 0 where there are fewer."""
    values, tokens = jax.lax.top_k(law, min(width, law.shape[1]))
    short = ((0, 0), (0, width - values.shape[1]))
    values = jnp.pad(values, short)
    return jnp.where(values > 0, jnp.pad(tokens.astype(jnp.int32), short), FREE), values
