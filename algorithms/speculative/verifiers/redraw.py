"""The sampling rule of REST's and ADED's published programs, which is biased.

Every path from the root to a leaf draws a token of its own at every node, so that a prefix
that several paths share has several tries; the longest match is taken, and the token after it
is drawn afresh, whatever was drawn there before. A draft token of probability p is emitted
with probability p + (1 - p) p after a single path. Greedy decoding is not affected. For
studies of the bias; decode with Match.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import spread
from jaxdecode.draft import ROOT, Draft, Verdict, at
from jaxdecode.drafter import Drafter
from jaxdecode.judge import Judge, stream
from jaxdecode.logits import noted
from jaxdecode.sampling import draw, step_keys
from jaxdecode.types import Array, Key

TRY, NEXT = 31, 32


@struct.dataclass
class Redraw:
    """Takes the longest path of which independent draws, path by path, agree with the draft."""

    def pair(self, drafter: Drafter) -> None:
        """Any drafter will do."""

    def __call__(self, keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int) -> Verdict:
        batch, nodes = draft.tokens.shape
        parent = draft.shape.parent
        inner = jnp.any(
            (parent[:, None] == jnp.arange(nodes)[:, None]) & draft.eligible[:, None], axis=2
        )
        leaf = draft.eligible & ~inner
        order = jnp.arange(nodes)
        seen = draft.shape.seen
        if seen is None:
            seen = jnp.broadcast_to(order <= order[:, None], (batch, nodes, nodes))
        # path[b, leaf, d]: the node at depth d + 1 above the leaf.
        path = jnp.zeros((batch, nodes, depth + 1), jnp.int32)
        place = jnp.where(seen, draft.shape.depth[:, None] - 1, depth)
        rows = jnp.arange(batch)[:, None, None]
        path = path.at[rows, order[:, None], place].set(jnp.broadcast_to(order, place.shape))
        path = path[..., :depth]

        def each(array: Array) -> Array:
            return jnp.repeat(array, nodes, axis=0)

        flat, logits = path.reshape(-1, depth), each(judge.logits)
        tokens = each(draft.tokens)
        tries = jax.vmap(jax.random.fold_in)(each(stream(keys, TRY)), jnp.tile(order, batch))
        length = draft.shape.depth.reshape(-1)
        state, agreed = spread(judge.state, nodes), leaf.reshape(-1) & each(judge.active)
        count = jnp.zeros((batch * nodes,), jnp.int32)
        cursor = count + ROOT
        for step in range(depth):
            heard = at(logits, cursor + 1)
            law = judge.sampler.distribution(judge.transform.apply(state, heard))
            token = draw(step_keys(tries, count * 0 + step), law)
            agreed &= (step < length) & (token == at(tokens, flat[:, step]))
            state = noted(judge.transform, state, heard, token, agreed)
            cursor = jnp.where(agreed, flat[:, step], cursor)
            count += agreed
        best = jnp.argmax(count.reshape(batch, nodes), axis=1)
        number = at(count.reshape(batch, nodes), best)
        chosen = at(path, best)

        edits, cursor = judge.state, jnp.full((batch,), ROOT)
        for step in range(depth):
            going = step < number
            edits = judge.observe(edits, cursor, at(draft.tokens, chosen[:, step]), going)
            cursor = jnp.where(going, chosen[:, step], cursor)
        following = draw(stream(keys, NEXT), judge.law(edits, cursor))
        return Verdict(chosen, number, following, jnp.zeros((batch,), bool))
