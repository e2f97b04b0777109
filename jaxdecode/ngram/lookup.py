"""Where the end of a text occurred earlier in it, and what followed there.

The longest end that occurred, of at most `longest` and at least `shortest` tokens, counts
(prompt lookup decoding; Saxena 2023).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode.ngram.trie import Continuations
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Int


def occurrences(
    text: Text, longest: int, shortest: int, ahead: int
) -> tuple[Bool[Array, "B S"], Int[Array, "B"]]:
    """Where the longest end of the text that occurred earlier ended, and its length.

    Args:
      ahead: how many tokens of the text must follow an occurrence for it to count; at least 1,
        so that the end itself does not.
    Returns:
      mask: bool[B, S], the places that follow an occurrence.
      matched: i32[B], tokens of the end that occurred, 0 if none did.
    """
    size = text.tokens.shape[1]
    end = text.last(longest)
    place = jnp.arange(size)
    inside = (place >= 1) & (place + ahead <= text.length[:, None])
    equal = jnp.ones(text.tokens.shape, bool)
    mask, matched = jnp.zeros_like(equal), jnp.zeros_like(text.length)
    before = text.tokens
    for count in range(1, longest + 1):
        before = jnp.pad(before, ((0, 0), (1, 0)), constant_values=-1)[:, :size]
        token = end[:, longest - count, None]
        equal &= (before == token) & (token >= 0)
        here = equal & inside
        longer = jnp.any(here, axis=1) & (count >= shortest)
        mask = jnp.where(longer[:, None], here, mask)
        matched = jnp.where(longer, count, matched)
    return mask, matched


def lookup(
    text: Text, matches: int, length: int, longest: int = 3, shortest: int = 1, whole: bool = True
) -> Continuations:
    """What followed the first `matches` earlier occurrences of the text's end.

    Args:
      length: tokens of a continuation.
      whole: whether only continuations of the full length count.
    """
    mask, _ = occurrences(text, longest, shortest, length if whole else 1)
    rank = jnp.cumsum(mask, axis=1) - 1
    slot = jnp.where(mask & (rank < matches), rank, matches)
    place = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
    starts = jnp.full((mask.shape[0], matches), -1)
    starts = jax.vmap(lambda s, at, p: s.at[at].set(p, mode="drop"))(starts, slot, place)
    tokens = [text.window(starts[:, m], length) for m in range(matches)]
    found = (starts >= 0)[..., None]
    return Continuations(
        tokens=jnp.where(found, jnp.stack(tokens, axis=1), -1),
        weight=found[..., 0].astype(jnp.float32),
    )
