"""Drafts of a canvas: what its next steps would decide, and one pass over all of them.

A *plan* is what the next step decides, with the guesses that come after it. Its drafts are nested
canvases: the first is that step, each further one has the next best guesses as well. A pass over
all drafts guesses every one of them; as one row each ("batch"), or as branches of one row that
share what is cached and do not see one another ("tree").
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import spread
from jaxdecode.canvas import places
from jaxdecode.guess import Choice, Order, Sight, ranks
from jaxdecode.lm import View
from jaxdecode.rows import Rows
from jaxdecode.types import Array, Bool, Float, Int
from jaxdecode.unmask import Unmasker


@struct.dataclass
class Plan:
    """What rows, [R] or drafts of each [R, C], would decide next in their block of B places.

    Attributes:
      accept: bool[R, B], the next step.
      token: i32[R, B], guesses.
      score: f32[R, B], by which guesses beyond the step are ranked.
      logprob: f32[R, B], of the guesses.
      made: bool[R], the row has a plan.
    """

    accept: Bool[Array, "*rows B"]
    token: Int[Array, "*rows B"]
    score: Float[Array, "*rows B"]
    logprob: Float[Array, "*rows B"]
    made: Bool[Array, "*rows"]

    @classmethod
    def none(cls, rows: int, block: int) -> Plan:
        none, zero = jnp.zeros((rows, block), bool), jnp.zeros((rows, block), jnp.float32)
        return cls(none, zero.astype(jnp.int32), zero, zero, none[:, 0])

    @classmethod
    def of(cls, choice: Choice, sight: Sight, order: Order, turn: int, usable: Array) -> Plan:
        """The plan of a chooser's decision; `turn` places come before any that follow them."""
        score = sight.score(order)
        late = jnp.arange(score.shape[1]) // turn
        logprob = sight.guess.logprob(choice.token)
        # A rank of its own for every turn: scores of different turns are never compared.
        low = ranks(score, jnp.ones_like(sight.open)).astype(jnp.float32)
        score = -(late * score.shape[1] + low)
        return cls(choice.accept & sight.open, choice.token, score, logprob, usable)

    def drafts(self, open: Bool[Array, "R B"], count: int, growth: Any) -> Bool[Array, "R d B"]:
        """The places that each draft decides."""
        rank = ranks(self.score, open & ~self.accept)[:, None]
        more = jnp.arange(count)[:, None] * growth
        accept = self.accept[:, None]
        return accept | ((rank < more) & open[:, None] & ~accept)


class Verified(NamedTuple):
    """A pass over drafts: hidden states of their blocks' places, and what it ran and saw."""

    hidden: Float[Array, "R d B D"]
    tokens: Int[Array, "R"]
    attended: Float[Array, "R"]


def verify(
    un: Unmasker, rows: Rows, decided: Bool[Array, "R d B"], live: Bool[Array, "R d"], tree: bool
) -> Verified:
    """Run the live drafts of every row; `decided` places hold the plan's tokens."""
    canvas, denoiser, looker = rows.speculation, un.denoiser, un.looker
    count, (batch, width) = live.shape[1], canvas.tokens.shape
    at = places(canvas.first, un.block)
    plan: Plan = canvas.drafts
    block = jnp.where(decided, plan.token[:, None], canvas.window(canvas.tokens, at)[:, None])
    index = at[:, None, :] - jnp.arange(width)[None, :, None]
    hit = index == 0  # [R, C, B]
    texts = jnp.sum(jnp.where(hit[:, None], block[:, :, None], 0), axis=3)
    texts = jnp.where(jnp.any(hit, axis=2)[:, None], texts, canvas.tokens[:, None])
    shape = (batch, count)
    if un.cache == "none" or not tree:
        many = spread(replace(canvas, drafts=()), count)
        flat = texts.reshape(-1, width)
        if un.cache == "none":
            frame = looker.wide(many, live.reshape(-1), width)
            cache = denoiser.model.init_cache(batch * count, width)
        else:
            frame = looker.narrow(many, live.reshape(-1), looker.reach)
            cache = spread(rows.cache, count)
        output = frame.run(denoiser, flat, cache)
        hidden = frame.standing(denoiser, output.hidden, places(many.first, un.block))
        seen = [x.reshape(shape).sum(1) for x in frame.counts(denoiser)]
        return Verified(hidden.reshape(*shape, *hidden.shape[1:]), *seen)
    frame = looker.narrow(canvas, jnp.any(live, axis=1), looker.reach)
    assert frame.prefix is not None
    here = places(frame.begin, frame.width)
    text = jnp.take_along_axis(texts, jnp.clip(here, 0, width - 1)[:, None], axis=2)
    valid = (here < frame.end[:, None])[:, None] & live[:, :, None]
    own = jnp.eye(count, dtype=bool)[None, :, None, :, None]
    sees = denoiser.visible(here, here)[:, None, :, None, :] & own
    slots = jnp.arange(rows.cache.capacity)
    held = slots < frame.prefix[:, None]
    held &= (slots < frame.begin[:, None]) | (slots >= (frame.begin + frame.width)[:, None])
    size = count * frame.width
    view = View(
        position=jnp.tile(here, (1, count)),
        start=jnp.full_like(frame.begin, width),  # behind the canvas: nothing stored is lost
        prefix=jnp.zeros_like(frame.begin),
        valid=valid.reshape(batch, size),
        block=sees.reshape(batch, size, size),
        beyond=jnp.broadcast_to(held[:, None], (batch, size, held.shape[1])),
    )
    output = denoiser.model(text.reshape(batch, size), rows.cache, view)
    hidden = output.hidden.reshape(*shape, frame.width, -1)
    index = jnp.clip(at - frame.begin[:, None] - int(denoiser.shift), 0, frame.width - 1)
    hidden = jnp.take_along_axis(hidden, index[:, None, :, None], axis=2)
    tokens, attended = frame.counts(denoiser)
    branches = jnp.sum(live, axis=1)
    return Verified(hidden, tokens * branches, attended * branches)


def scratch(un: Unmasker, count: int) -> int:
    """Slots that the branches of a tree need behind the canvas."""
    return 0 if un.cache == "none" else count * un.looker.reach
