"""Typical acceptance: a draft holds where it is not too improbable (Cai et al. 2024, arXiv
2401.10774).

A node with token x after a law p is accepted, if its parent is, where

    p(x) > min(epsilon, delta exp(-H(p))),    H the entropy in nats.

The deepest accepted node is taken, of several the one whose path has the largest sum of log p,
and the next token is drawn after it as in plain decoding. This is an approximation: it accepts
more than an exact verifier, and the output does not follow the target's law. Under a greedy
sampler the law is certain of one token, and the output is the exact one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.draft import Draft, Verdict, at
from jaxdecode.drafter import Drafter
from jaxdecode.judge import Judge
from jaxdecode.types import Array, Float, Int, Key


@struct.dataclass
class Typical:
    """Attributes: epsilon and delta of the module's rule; delta is sqrt(epsilon) as published."""

    epsilon: float | Array = 0.09
    delta: float | Array = 0.3

    def __post_init__(self) -> None:
        for name in ("epsilon", "delta"):
            value = getattr(self, name)
            if isinstance(value, float | int) and not 0 < value <= 1:
                raise ValueError(f"{name}={value} must lie in (0, 1]")

    def pair(self, drafter: Drafter) -> None:
        """Any drafter will do."""

    def bound(self, law: Float[Array, "B V"]) -> Float[Array, "B"]:
        """The probability that a token must exceed."""
        surprise = jnp.where(law > 0, -law * jnp.log(jnp.where(law > 0, law, 1.0)), 0.0)
        return jnp.minimum(self.epsilon, self.delta * jnp.exp(-jnp.sum(surprise, axis=1)))

    def __call__(self, keys: Key[Array, "B"], judge: Judge, draft: Draft, depth: int) -> Verdict:
        batch, nodes = draft.tokens.shape

        def table(root: Array, fill: float | int = 0) -> Array:
            """Row 0 is the root, row n + 1 is node n."""
            blank = jnp.full((batch, nodes + 1, *root.shape[1:]), fill, root.dtype)
            return put(blank, jnp.zeros((batch, 1), jnp.int32), root[:, None])

        def step(carry, node) -> tuple[Any, None]:
            held, score, states = carry
            parent = draft.shape.parent[:, node]
            state = jax.tree.map(lambda x: at(x, parent + 1), states)
            law, token = judge.law(state, parent), draft.tokens[:, node]
            p = jnp.take_along_axis(law, token[:, None], axis=1)[:, 0]
            holds = draft.eligible[:, node] & at(held, parent + 1) & (p > self.bound(law))
            total = at(score, parent + 1) + jnp.log(jnp.maximum(p, 1e-30))
            state = judge.observe(state, parent, token, holds)
            where = jnp.broadcast_to(node + 1, (batch, 1))
            return (
                put(held, where, holds[:, None]),
                put(score, where, jnp.where(holds, total, -jnp.inf)[:, None]),
                jax.tree.map(lambda x, y: put(x, where, y[:, None]), states, state),
            ), None

        start = (
            table(judge.active),
            table(jnp.zeros((batch,), jnp.float32)),
            jax.tree.map(table, judge.state),
        )
        (held, score, states), _ = jax.lax.scan(step, start, jnp.arange(nodes))
        reach = jnp.concatenate([jnp.zeros((batch, 1), jnp.int32), draft.shape.depth], axis=1)
        reach = jnp.where(held, reach, -1)
        deepest = reach == jnp.max(reach, axis=1, keepdims=True)
        end = jnp.argmax(jnp.where(deepest, score, -jnp.inf), axis=1).astype(jnp.int32) - 1
        count = jnp.maximum(at(reach, end + 1), 0)
        drawn = judge.draw(jax.tree.map(lambda x: at(x, end + 1), states), end, count)
        verdict = Verdict(
            path=climb(draft, end, count, depth),
            count=count,
            next=jnp.where(judge.active, drawn, -1),
            guessed=jnp.zeros((batch,), bool),
        )
        guess = draft.guess
        if guess is None:
            return verdict
        right = guess.valid & (guess.after == end) & (guess.token == verdict.next)
        return replace(verdict, guessed=right)


def climb(
    draft: Draft, end: Int[Array, "B"], count: Int[Array, "B"], depth: int
) -> Int[Array, "B P"]:
    """The path from the root to node `end`, which is `count` deep."""
    path = jnp.zeros((end.shape[0], depth), jnp.int32)

    def step(index, carry):
        path, node = carry
        place = jnp.where(node >= 0, count - 1 - index, depth)
        path = put(path, place[:, None], node[:, None])
        return path, jnp.where(node >= 0, at(draft.shape.parent, node), node)

    path, _ = jax.lax.fori_loop(0, depth, step, (path, end))
    return path
