"""What the steps after drafts would be, and which drafts they confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from algorithms.diffusion.drafts import Plan, verify
from jaxdecode.cache import spread
from jaxdecode.canvas import Canvas, places
from jaxdecode.guess import Order, Sight
from jaxdecode.judge import stream
from jaxdecode.rows import Rows
from jaxdecode.sampling import step_keys
from jaxdecode.types import Array, Bool, Float, Int
from jaxdecode.unmask import CHOOSE, TOSS, Unmasker, read


class Ahead(NamedTuple):
    """What a pass over drafts says of each.

    Attributes:
      plan: of what follows each draft, leaves [R, d, ...].
      known: f32[R, d, B], log-probabilities of the present plan's tokens after each.
      tokens, attended: what the pass ran and saw.
    """

    plan: Plan
    known: Float[Array, "R d B"]
    tokens: Int[Array, "R"]
    attended: Float[Array, "R"]


def judge(
    un: Unmasker,
    rows: Rows,
    drafts: Bool[Array, "R d B"],
    live: Bool[Array, "R d"],
    order: Order,
    turn: int,
    tree: bool,
) -> Ahead:
    """Run the live drafts, and let the chooser decide after each; no pass where none is live."""
    canvas, shape = rows.speculation, drafts.shape[:2]
    plan, count = canvas.drafts, shape[1]

    def made() -> Ahead:
        seen = verify(un, rows, drafts, live, tree)
        many = spread(replace(rows, cache=(), usage=()), count)
        decided, step = drafts.reshape(-1, un.block), jnp.tile(1 + jnp.arange(count), shape[0])
        after: Canvas = many.speculation
        after = replace(
            after,
            commits=after.commits + jnp.sum(decided, axis=1),
            passes=after.passes + step,
        )
        at = places(after.first, un.block)
        guess = read(un, many, after, seen.hidden.reshape(*at.shape, -1), at)
        sight = Sight(
            guess=guess,
            open=after.window(after.open, at) & ~decided,
            done=after.window(after.done, at) | decided,
            place=after.first - many.prompt_length,
            step=after.step + step,
            entered=after.entered,
            key=step_keys(stream(many.key, CHOOSE), after.commits),
            coin=step_keys(stream(many.key, TOSS), after.passes),
        )
        choice, _ = un.chooser(un.chooser.init(at.shape[0], un.block), sight)
        usable = ~jnp.any(sight.open & (guess.token < 0), axis=1)
        following = Plan.of(choice, sight, order, turn, usable)
        known = guess.logprob(jnp.repeat(plan.token, count, axis=0))
        following, known = jax.tree.map(
            lambda x: x.reshape(*shape, *x.shape[1:]), (following, known)
        )
        return Ahead(following, known, seen.tokens, seen.attended)

    def unmade() -> Ahead:
        shapes = jax.eval_shape(made)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    return jax.lax.cond(jnp.any(live), made, unmade)


def accepted(
    rule: str,
    drafts: Bool[Array, "R d B"],
    real: Bool[Array, "R d"],
    live: Bool[Array, "R d"],
    ahead: Ahead,
    token: Int[Array, "R B"],
) -> tuple[Bool[Array, "R d"], Int[Array, "R"]]:
    """The drafts that are passed through, and the last of them."""
    count = drafts.shape[1]
    step = ahead.plan.accept & ~drafts  # what the step after each draft decides
    agrees = ~step | (ahead.plan.token == token[:, None])
    after = drafts | step
    index = jnp.arange(count)
    # fits[i, j]: the step after draft i does not contradict draft j.
    new = drafts[:, None] & ~drafts[:, :, None]
    fits = jnp.all(~new | (step & agrees)[:, :, None], axis=3)
    if rule == "exact":
        fits &= jnp.all(drafts[:, None] == after[:, :, None], axis=3)
        fits &= index[:, None] + 1 == index
    fits &= (live & ahead.plan.made)[:, :, None] & real[:, None] & (index[:, None] < index)

    def hop(carry: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], None]:
        path, best = carry
        row = jnp.take_along_axis(fits, best[:, None, None], axis=1)[:, 0]
        best = jnp.maximum(best, jnp.max(jnp.where(row, index, -1), axis=1))
        return (path | (index == best[:, None]), best), None

    first = jnp.zeros(drafts.shape[0], jnp.int32)
    path = jnp.broadcast_to(index == 0, drafts.shape[:2])
    (path, last), _ = jax.lax.scan(hop, (path, first), length=count - 1)
    return path & real[:, :1], last
