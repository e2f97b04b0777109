"""Counts of a corpus that a text keeps adapting: what was read lately is preferred.

Values start as the shares of the corpus. Every time a successor is met again its value grows
by a step, up to a cap; a successor or an n-gram that the corpus lacks starts at 0. Values are
preferences and not probabilities. Only entries that were met are copied to a table of their
own, which is read first; where it has no place left in an entry, the smallest value gives way.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.ngram.counts import Counts
from jaxdecode.ngram.table import FREE, Entry, Table, combine
from jaxdecode.types import Array, Bool, Float, Int


def known(met: Table, corpus: Counts, keys: Int[Array, "B Q n"]) -> Entry:
    """The entry of each key, as met or else as in the corpus."""
    own, given = met.read(keys), corpus.read(keys)
    more = ((0, 0), (0, 0), (0, own.tokens.shape[2] - given.tokens.shape[2]))
    here = own.found[..., None]
    return Entry(
        tokens=jnp.where(here, own.tokens, jnp.pad(given.tokens, more, constant_values=FREE)),
        values=jnp.where(here, own.values, jnp.pad(given.values, more)),
        count=jnp.where(own.found, own.count, given.count),
    )


def successors(
    met: Table, corpus: Counts, keys: Int[Array, "B Q n"]
) -> tuple[Int[Array, "B Q K"], Float[Array, "B Q K"]]:
    """Tokens by falling value, then by id, and their values."""
    entry = known(met, corpus, keys)
    worth = jnp.where(entry.tokens == FREE, jnp.inf, -entry.values)
    worth, tokens = jax.lax.sort((worth, entry.tokens), num_keys=2)
    return tokens, jnp.where(tokens == FREE, 0.0, -worth)


def adapt(
    met: Table,
    corpus: Counts,
    grams: Int[Array, "B T np1"],
    valid: Bool[Array, "B T"],
    step: Float[Array, ""] | float,
    cap: Float[Array, ""] | float,
) -> Table:
    """Prefer the last token of each n-gram after the others, once for every time it is there."""
    keys, after = grams[..., :-1], grams[..., -1]
    held = known(met, corpus, keys)
    same = jnp.all(keys[:, :, None] == keys[:, None], axis=3) & valid[:, None] & valid[..., None]
    order = jnp.arange(keys.shape[1])
    leads = valid & ~jnp.any(same & (order < order[:, None]), axis=2)
    tokens = jnp.where(same, after[:, None], FREE)
    grown = jnp.broadcast_to(jnp.asarray(step, jnp.float32), tokens.shape)
    tokens, values = combine(
        jnp.concatenate([held.tokens, tokens], axis=2),
        jnp.concatenate([held.values, grown], axis=2),
        held.tokens.shape[2],
        rank=jnp.concatenate([held.values, jnp.full(tokens.shape, jnp.inf)], axis=2),
    )
    times = met.read(keys).count + jnp.sum(same, axis=2)
    return met.write(keys, Entry(tokens, jnp.minimum(values, cap), times), leads)
