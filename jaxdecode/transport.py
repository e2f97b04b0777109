"""Drafts as optimal transport: how often can one of k independent draws be the output?

A rule takes X_1..X_k drawn from the draft's law q and returns Y that follows the target's law p;
it accepts if Y is among the draws (Sun et al. 2023, arXiv:2310.15141).

The best rule accepts with probability min over sets A of tokens of p(A) + 1 - q(A)^k, by the
theorem on flows and cuts: sets of draws send their probability to the tokens that they hold.
The expression is concave in (p(A), q(A)), so that only sets of the smallest ratios p / q can
attain the minimum, and sorting finds it.

K-SEQ is a rule that looks at one draw after the other, each accepted with probability
min(1, p / (rho q)) for a division factor rho. With

    beta(rho) = sum min(q, p / rho),   accepted(rho) = 1 - (1 - beta(rho))^k,

what must be drawn when all are rejected is [p - min(q, p / rho) accepted / beta] / (1 -
accepted), a law if and only if accepted <= rho beta. The smallest such rho, at most k, accepts
the most, at least 1 - (1 - 1/k)^k of what the best rule does.

All functions take laws [..., V] and counts [...], which may be traced.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.types import Array, Float

STEPS = 40  # bisections; single precision is exhausted well before


def overlap(target: Float[Array, "... V"], draft: Float[Array, "... V"], rho: Any) -> Array:
    """beta(rho): the probability that one draw is accepted."""
    return jnp.sum(jnp.minimum(draft, target / jnp.asarray(rho)[..., None]), axis=-1)


def accepted(beta: Float[Array, "..."], count: Any) -> Float[Array, "..."]:
    """The probability that one of `count` draws is accepted."""
    several = -jnp.expm1(count * jnp.log1p(-jnp.clip(beta, 0.0, 1.0)))
    return jnp.where(jnp.asarray(count) == 1, beta, several)


def division(
    target: Float[Array, "... V"], draft: Float[Array, "... V"], count: Any
) -> Float[Array, "..."]:
    """The smallest rho in [1, count] for which the residual is a law, from above."""
    count = jnp.broadcast_to(jnp.asarray(count, jnp.float32), target.shape[:-1])

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        beta = overlap(target, draft, middle)
        fits = accepted(beta, count) <= middle * beta
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    top = jnp.maximum(count, 1.0)
    _, high = jax.lax.fori_loop(0, STEPS, halve, (jnp.ones_like(top), top))
    return jnp.where(count <= 1, 1.0, high)


def remainder(
    target: Float[Array, "... V"], draft: Float[Array, "... V"], rho: Any, count: Any
) -> Float[Array, "... V"]:
    """What K-SEQ draws from when all draws are rejected; the target where none can be."""
    beta = overlap(target, draft, rho)
    share = jnp.where(beta > 0, accepted(beta, count) / jnp.where(beta > 0, beta, 1.0), 0.0)
    taken = jnp.minimum(draft, target / jnp.asarray(rho)[..., None]) * share[..., None]
    left = jnp.maximum(target - taken, 0.0)
    total = jnp.sum(left, axis=-1, keepdims=True)
    return jnp.where(total > 0, left / jnp.where(total > 0, total, 1.0), target)


def k_seq(
    target: Float[Array, "... V"], draft: Float[Array, "... V"], count: Any
) -> Float[Array, "..."]:
    """The probability that K-SEQ accepts one of `count` draws."""
    return accepted(overlap(target, draft, division(target, draft, count)), count)


def optimum(
    target: Float[Array, "... V"], draft: Float[Array, "... V"], count: Any
) -> Float[Array, "..."]:
    """The probability that the best rule accepts one of `count` draws."""
    ratio = jnp.where(draft > 0, target / jnp.where(draft > 0, draft, 1.0), jnp.inf)
    order = jnp.argsort(ratio, axis=-1)
    held = jnp.cumsum(jnp.take_along_axis(target, order, axis=-1), axis=-1)
    covered = jnp.cumsum(jnp.take_along_axis(draft, order, axis=-1), axis=-1)
    cut = held + 1.0 - jnp.clip(covered, 0.0, 1.0) ** jnp.asarray(count)[..., None]
    return jnp.minimum(jnp.min(cut, axis=-1), 1.0)


def multi_round(
    target: Float[Array, "... V"], draft: Float[Array, "... V"], count: int
) -> Float[Array, "..."]:
    """The probability that trying `count` draws in turn against the residual accepts one."""

    def step(carry, _):
        law, reached = carry
        left = jnp.maximum(law - draft, 0.0)
        rejected = jnp.sum(left, axis=-1, keepdims=True)
        law = jnp.where(rejected > 0, left / jnp.where(rejected > 0, rejected, 1.0), law)
        return (law, reached * rejected[..., 0]), None

    start = (target, jnp.ones(target.shape[:-1], target.dtype))
    (_, missed), _ = jax.lax.scan(step, start, length=count)
    return 1.0 - missed


def ceiling(
    target: Float[Array, "... V"], draft: Float[Array, "... V"], count: Any
) -> Float[Array, "..."]:
    """A bound on `optimum`: no token is output more often than it is wanted, or drawn."""
    drawn = 1.0 - (1.0 - draft) ** jnp.asarray(count)[..., None]
    return jnp.sum(jnp.minimum(target, drawn), axis=-1)
