"""Two draft trees made one: what both have is there once (Quan et al. 2025, arXiv 2503.03434).

Every path of the second tree is followed through the first as far as it goes, and the rest is
attached there. As sets of paths from the root, the result is the union.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from jaxdecode.draft import Draft, Shape
from jaxdecode.ngram.trie import Tree
from jaxdecode.types import Array, Bool, Int


def fuse(draft: Draft, tree: Tree, depth: int, merge: bool = True) -> Draft:
    """The draft with the tree's paths, in the draft's N nodes and then in at most M more.

    Args:
      draft: its nodes stay where they are.
      depth: of the result, at most.
      merge: False attaches the tree as it is, beside what it repeats.
    """
    tokens, parent, valid = jax.vmap(partial(_fuse, merge=merge))(
        draft.tokens,
        draft.shape.parent,
        draft.valid,
        tree.tokens,
        tree.parent,
        tree.valid,
    )
    return replace(draft, tokens=tokens, shape=Shape.grown(parent, depth), valid=valid)


def _fuse(
    tokens: Int[Array, "N"],
    parent: Int[Array, "N"],
    valid: Bool[Array, "N"],
    more: Int[Array, "M"],
    above: Int[Array, "M"],
    there: Bool[Array, "M"],
    merge: bool,
) -> tuple[Int[Array, "N+M"], Int[Array, "N+M"], Bool[Array, "N+M"]]:
    """One row; nodes of the tree come parents first."""
    own, extra = len(tokens), len(more)

    def pad(array: Array) -> Array:
        return jnp.pad(array, (0, extra))

    def step(carry, node):
        tokens, parent, valid, place, used = carry
        token, here = more[node], there[node]
        root = jnp.where(above[node] >= 0, place[above[node]], -1)
        twin = valid & (parent == root) & (tokens == token) & merge
        found = jnp.any(twin)
        new = here & ~found
        at = jnp.where(new, used, own + extra)
        place = place.at[node].set(jnp.where(found, jnp.argmax(twin), used))
        return (
            tokens.at[at].set(token, mode="drop"),
            parent.at[at].set(root, mode="drop"),
            valid.at[at].set(True, mode="drop"),
            place,
            used + new,
        ), None

    place = jnp.zeros((extra,), jnp.int32)
    carry = (pad(tokens), pad(parent), pad(valid), place, jnp.int32(own))
    (tokens, parent, valid, _, _), _ = jax.lax.scan(step, carry, jnp.arange(extra))
    return tokens, parent, valid
