"""The two walks through a draft that verifiers are made of.

`match` draws at each node the token that plain decoding would draw there and follows it as
long as it has been drafted: no law of the draft is needed, any choice of drafts is exact, and
the output is that of plain decoding with the same key, token for token.

`recurse` tries the children of a node one after the other against the target's law, each
rejection leaving its residual (multi-round rejection sampling; Leviathan et al. 2023,
arXiv:2211.17192, for one child; Miao et al. 2024, arXiv:2305.09781, with replacement; Jeon et
al. 2024, arXiv:2402.14160, without). It accepts more than `match` where drafts were drawn.

Both visit only the nodes that matter: the loop ends when the slowest row has.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode.cache import put
from jaxdecode.draft import ROOT, Draft, Verdict, at
from jaxdecode.judge import Judge, stream
from jaxdecode.sampling import draw, residual, step_keys
from jaxdecode.types import Array, Bool, Float, Int, Key

ACCEPT, BONUS, GUESS = 11, 12, 13


def match(judge: Judge, draft: Draft, depth: int) -> Verdict:
    """Follow the draft wherever it holds the token that plain decoding draws."""
    remembers = bool(jax.tree.leaves(judge.state))
    path, count, cursor, token = (walk if remembers else leap)(judge, draft, depth)
    guessed = jnp.zeros(count.shape, bool)
    if draft.guess is not None:
        guess = draft.guess
        guessed = guess.valid & (cursor == guess.after) & (guess.token == token) & (token >= 0)
    return Verdict(path=path, count=count, next=token, guessed=guessed)


def alone(judge: Judge) -> Verdict:
    """The token after the root, of a round without a draft."""
    zero = jnp.zeros(judge.active.shape, jnp.int32)
    token = jnp.where(judge.active, judge.draw(judge.state, zero + ROOT, zero), -1)
    return Verdict(jnp.zeros((zero.shape[0], 0), jnp.int32), zero, token, zero > 0)


def rested(verdict: Verdict, judge: Judge, rows: Bool[Array, "B"]) -> Verdict:
    """The verdict of a round without a draft on these rows: a row that rests beside one that
    drafts draws what it would draw alone."""
    without = alone(judge)
    return replace(
        verdict,
        count=jnp.where(rows, 0, verdict.count),
        next=jnp.where(rows, without.next, verdict.next),
        guessed=verdict.guessed & ~rows,
    )


def walk(judge: Judge, draft: Draft, depth: int) -> tuple[Array, Array, Array, Array]:
    """Node by node, as a transform that remembers the path has to be asked.

    Returns the path, its length, its last node and the token drawn after it.
    """
    batch, parent = draft.tokens.shape[0], draft.shape.parent

    def body(carry):
        done, cursor, count, path, token, state = carry
        drawn = judge.draw(state, cursor, count)
        child = draft.eligible & (parent == cursor[:, None]) & (draft.tokens == drawn[:, None])
        found = jnp.any(child, axis=1) & ~done & (drawn >= 0)
        node = first(child)
        path = put(path, jnp.where(found, count, depth)[:, None], node[:, None])
        token = jnp.where(done, token, drawn)
        state = judge.observe(state, cursor, drawn, found)
        cursor = jnp.where(found, node, cursor)
        return done | ~found, cursor, count + found, path, token, state

    zero = jnp.zeros((batch,), jnp.int32)
    carry = (~judge.active, zero + ROOT, zero, jnp.zeros((batch, depth), jnp.int32), zero - 1)
    carry = jax.lax.while_loop(lambda c: jnp.any(~c[0]), body, (*carry, judge.state))
    _, cursor, count, path, token, _ = carry
    return path, count, cursor, token


def leap(judge: Judge, draft: Draft, depth: int) -> tuple[Array, Array, Array, Array]:
    """The same at once: draw at every node, and keep those whose whole line was drawn."""
    (batch, nodes), shape = draft.tokens.shape, draft.shape
    drawn = judge.draws(jnp.pad(shape.depth, ((0, 0), (1, 0))))
    wanted = jnp.take_along_axis(drawn, shape.parent + 1, axis=1)
    hit = draft.eligible & (draft.tokens == wanted) & judge.active[:, None]
    if shape.seen is None:
        accepted = jnp.cumprod(hit, axis=1).astype(bool)
        count = jnp.sum(accepted, axis=1, dtype=jnp.int32)
        line = jnp.arange(depth, dtype=jnp.int32)
        path = jnp.broadcast_to(line, (batch, depth))
        cursor = count - 1
    else:
        # Of siblings that hold one token the first is followed.
        index = jnp.arange(nodes)
        twin = (shape.parent[:, None] == shape.parent[..., None]) & (index < index[:, None])
        hit &= ~jnp.any(twin & hit[:, None], axis=2)
        # A place that nothing filled may have no line at all, not even itself.
        accepted = hit & jnp.all(hit[:, None] | ~shape.seen, axis=2)
        count = jnp.sum(accepted, axis=1, dtype=jnp.int32)
        level = accepted[:, None] & (shape.depth[:, None] == jnp.arange(1, depth + 1)[:, None])
        path = jnp.argmax(level, axis=2).astype(jnp.int32)
        cursor = jnp.where(count > 0, at(path, count - 1), ROOT)
    return path, count, cursor, jnp.where(judge.active, at(drawn, cursor + 1), -1)


def recurse(
    keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int, replacement: bool
) -> Verdict:
    """Accept or reject the children of each node in turn.

    A child x drawn from q is accepted with probability min(1, p(x) / q(x)); a rejection makes
    p the residual max(p - q, 0), normalised, and without replacement q loses x; children that
    were drawn beyond the support of q were drawn uniformly. What is left of p when no child is,
    is what the next token is drawn from.

    Args:
      keys: the round's keys.
      replacement: whether siblings are independent draws, or draws without replacement.
    """
    batch, parent = draft.tokens.shape[0], draft.shape.parent
    assert draft.logq is not None and draft.source is not None
    logq, source, nodes = draft.logq, draft.source, jnp.arange(draft.nodes)

    def chance(purpose: int, node: Int[Array, "B"]) -> Float[Array, "B"]:
        return jax.vmap(jax.random.uniform)(step_keys(stream(keys, purpose), node))

    def pending(cursor, last) -> Bool[Array, "B N"]:
        return draft.eligible & (parent == cursor[:, None]) & (nodes > last[:, None])

    def body(carry):
        done, cursor, last, count, path, p, tried, state = carry
        child = pending(cursor, last)
        some = jnp.any(child, axis=1) & ~done
        node = first(child)
        token = at(draft.tokens, node)
        q = jnp.exp(at(logq, at(source, node)))
        if not replacement:
            q = jnp.where(tried, 0.0, q)
            total = jnp.sum(q, axis=1, keepdims=True)
            rest = ~tried / jnp.maximum(jnp.sum(~tried, axis=1, keepdims=True), 1)
            q = jnp.where(total > 0, q / jnp.where(total > 0, total, 1.0), rest)
        accept = some & (chance(ACCEPT, node) * pick(q, token) < pick(p, token))
        path = put(path, jnp.where(accept, count, depth)[:, None], node[:, None])
        state = judge.observe(state, cursor, token, accept)
        cursor = jnp.where(accept, node, cursor)
        reject = some & ~accept
        chosen = jnp.arange(p.shape[1]) == token[:, None]
        tried = jnp.where(accept[:, None], False, tried | (reject[:, None] & chosen))
        p = jnp.where(reject[:, None], residual(p, q), p)
        p = jnp.where(accept[:, None], judge.law(state, cursor), p)
        last = jnp.where(some, node, last)
        return done | ~some, cursor, last, count + accept, path, p, tried, state

    zero = jnp.zeros((batch,), jnp.int32)
    root = zero + ROOT
    p = judge.law(judge.state, root)
    tried = jnp.zeros(p.shape, bool)
    path = jnp.zeros((batch, depth), jnp.int32)
    carry = (~judge.active, root, root, zero, path, p, tried, judge.state)
    carry = jax.lax.while_loop(lambda c: jnp.any(~c[0]), body, carry)
    _, cursor, last, count, path, p, _, _ = carry

    guessed, guess = jnp.zeros((batch,), bool), draft.guess
    if guess is not None:
        assert guess.logq is not None
        q = jnp.exp(guess.logq)
        fits = guess.valid & (cursor == guess.after) & (last == cursor)  # nothing was rejected
        chances = chance(GUESS, zero)
        guessed = fits & (chances * pick(q, guess.token) < pick(p, guess.token))
        p = jnp.where((fits & ~guessed)[:, None], residual(p, q), p)
    following = draw(stream(keys, BONUS), p)
    if guess is not None:
        following = jnp.where(guessed, guess.token, following)
    return Verdict(path=path, count=count, next=following, guessed=guessed)


def first(mask: Bool[Array, "B N"]) -> Int[Array, "B"]:
    """The first node of a mask; 0 where there is none, or no node at all."""
    if mask.shape[1] == 0:
        return jnp.zeros(mask.shape[:1], jnp.int32)
    return jnp.argmax(mask, axis=1).astype(jnp.int32)


def pick(law: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    """The probability of one token."""
    return jnp.take_along_axis(law, token[:, None], axis=1)[:, 0]
