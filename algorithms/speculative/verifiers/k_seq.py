"""K-SEQ: selection among independent drafts, level by level (Sun et al. 2023, arXiv:2310.15141).

At each node its k children, independent draws from one law, are tried in turn with the division
factor for k; the first accepted is emitted, and so are those of the same token, whose
continuations together are again independent draws. k is the number of draws that are still
alive, not that of the sequences drafted. When all are rejected the next token follows the
remainder of `jaxdecode.transport`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.speculative.verifiers.residual import need_laws
from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.draft import ROOT, Draft, Verdict, at
from jaxdecode.drafter import Drafter
from jaxdecode.judge import Judge, stream
from jaxdecode.paper import Paper
from jaxdecode.sampling import draw, step_keys
from jaxdecode.transport import division, remainder
from jaxdecode.types import Array, Key
from jaxdecode.verify import ACCEPT, BONUS, first

PAPER = Paper(
    slug="spectr",
    title="SpecTr: Fast Speculative Decoding via Optimal Transport",
    authors=(
        "Ziteng Sun",
        "Ananda Theertha Suresh",
        "Jae Hun Ro",
        "Ahmad Beirami",
        "Himanshu Jain",
        "Felix Yu",
    ),
    year=2023,
    arxiv="2310.15141",
    venue="NeurIPS 2023",
    claim=(
        "Selecting among several independent drafts by near-optimal transport yields more tokens "
        "per pass of the target than one draft does, and the same distribution."
    ),
    losslessness="exact",
)


@struct.dataclass
class KSeq:
    """Accepts the first child x that passes with probability p(x) / (rho q(x))."""

    def pair(self, drafter: Drafter) -> None:
        need_laws(self, drafter)
        if not getattr(drafter, "replacement", drafter.depth == drafter.nodes):
            raise ValueError(
                "verifier: KSeq holds for siblings that are independent draws, and the drafter "
                "draws them without replacement; pair it with Residual()"
            )

    def __call__(self, keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int) -> Verdict:
        draft = draft.merged()
        batch, parent = draft.tokens.shape[0], draft.shape.parent
        assert draft.logq is not None and draft.source is not None
        logq, source = draft.logq, draft.source
        chances = jax.vmap(
            lambda node: jax.vmap(jax.random.uniform)(step_keys(stream(keys, ACCEPT), node)),
            out_axes=1,
        )(jnp.broadcast_to(jnp.arange(draft.nodes)[:, None], (draft.nodes, batch)))

        def body(carry):
            done, cursor, count, path, law, state = carry
            child = draft.eligible & (parent == cursor[:, None])
            alive = jnp.sum(child, axis=1)
            some = (alive > 0) & ~done
            q = jnp.exp(at(logq, at(source, first(child))))
            rho = division(law, q, alive)
            wanted = jnp.take_along_axis(law, draft.tokens, axis=1)
            drawn = jnp.take_along_axis(q, draft.tokens, axis=1)
            passes = child & (chances * rho[:, None] * drawn < wanted)
            accept = some & jnp.any(passes, axis=1)
            token = at(draft.tokens, first(passes))
            node = first(child & (draft.tokens == token[:, None]))  # it has the children of all
            path = put(path, jnp.where(accept, count, depth)[:, None], node[:, None])
            state = judge.observe(state, cursor, token, accept)
            cursor = jnp.where(accept, node, cursor)
            reject = some & ~accept
            law = jnp.where(reject[:, None], remainder(law, q, rho, alive), law)
            law = jnp.where(accept[:, None], judge.law(state, cursor), law)
            return done | ~accept, cursor, count + accept, path, law, state

        zero = jnp.zeros((batch,), jnp.int32)
        root = zero + ROOT
        law = judge.law(judge.state, root)
        path = jnp.zeros((batch, depth), jnp.int32)
        carry = (~judge.active, root, zero, path, law, judge.state)
        carry = jax.lax.while_loop(lambda c: jnp.any(~c[0]), body, carry)
        _, _, count, path, law, _ = carry
        following = draw(stream(keys, BONUS), law)
        return Verdict(path=path, count=count, next=following, guessed=jnp.zeros((batch,), bool))
