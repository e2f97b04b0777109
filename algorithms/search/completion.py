"""The expander of a tree of tokens: a node of a given token, and the model's text behind it.

A completion is run in the slots that follow the node's own and leaves nothing behind but what is
noted of it: the k tokens most probable after each of its tokens. A node that begins a text noted
before need not be run at all. Nodes that were left out so are run, in their order, when
something below them first is. The first node of a row is the prompt's last token, whose text is
empty.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from algorithms.search.texts import Ahead, Text
from jaxdecode import struct
from jaxdecode.arena import Choice
from jaxdecode.cache import Cache, put
from jaxdecode.lm import LanguageModel, View
from jaxdecode.logits import Identity
from jaxdecode.nodes import Arena, Fresh, look
from jaxdecode.result import Status, Usage
from jaxdecode.sampling import Greedy, Sampler, likeliest, row_keys, step_keys
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int, Key


class Order(NamedTuple):
    """What to make a node of.

    Attributes:
      token, logprob: its token and what that costs.
      complete: whether the model is to complete it.
      idle: whether it need not be run.
      known: whether `text` is what completes it.
    """

    token: Int[Array, "B"]
    logprob: Float[Array, "B"]
    complete: Bool[Array, "B"]
    idle: Bool[Array, "B"]
    known: Bool[Array, "B"]
    text: Text


class _Run(NamedTuple):
    time: Int[Array, ""]
    cache: Cache
    feed: Int[Array, "B"]
    live: Bool[Array, "B"]
    text: Text
    usage: Usage


class _Plan(NamedTuple):
    """Of one round: slots in sight, slots taken before, nodes to be run first, keys."""

    sees: Bool[Array, "B X"]
    used: Int[Array, "B"]
    late: Int[Array, "B"]
    complete: Bool[Array, "B"]
    keys: Key[Array, "B"]


@struct.dataclass
class Completion:
    """The expander: one node of a given token, and the completion behind it.

    Attributes:
      model, stop: who writes, and what ends a text.
      max_tokens: static, of a text.
      branch: static, k.
      sampler: draws the tokens of a completion among the k most probable.
    """

    model: LanguageModel
    stop: StopRule
    max_tokens: int = struct.field(pytree_node=False)
    branch: int = struct.field(pytree_node=False)
    sampler: Sampler = Greedy()

    @property
    def transform(self) -> Identity:
        """Edits the logits of the completion."""
        return Identity()

    @property
    def width(self) -> int:
        return self.max_tokens + 1

    @property
    def depth(self) -> int:
        return self.max_tokens + 1

    def grow(self, key: Key[Array, ""], arena: Arena, choice: Choice) -> tuple[Arena, Fresh]:
        parents, order = choice.parents, choice.order
        asked, opening = parents[:, 0] >= 0, parents[:, 0] == 0
        begun, longest = look(arena.length, parents)[:, 0], self.max_tokens
        at = jnp.where(opening, longest, begun)[:, None]
        text = put(look(arena.tokens, parents)[:, 0], at, order.token[:, None])
        length = jnp.where(opening, 0, begun + 1)
        status = jnp.where(length >= longest, Status.LENGTH, Status.RUNNING)
        status = jnp.where(self.stop(text, length), Status.EOS, status)
        status = jnp.where(opening, Status.RUNNING, status)
        logprob = look(arena.logprob, parents)[:, 0] + order.logprob
        live = asked & (status == Status.RUNNING) & ~order.idle
        sees, used, (arena, late) = (
            arena.sees(parents)[:, 0],
            arena.used,
            _late(arena, parents, live),
        )
        blank = jnp.zeros((*text.shape, self.branch), jnp.float32)
        ahead = Ahead(blank.astype(jnp.int32), blank, blank)
        first = jnp.take_along_axis(text, jnp.maximum(begun - late, 0)[:, None], axis=1)[:, 0]
        keys = row_keys(key, arena.prompt.id, arena.nodes)
        plan = _Plan(sees, used, late, order.complete, keys)
        run = jax.lax.while_loop(
            lambda run: jnp.any(run.live),
            lambda run: self._token(arena, plan, run),
            _Run(
                time=jnp.zeros((), jnp.int32),
                cache=arena.cache,
                feed=jnp.where(opening, order.token, first),
                live=live,
                text=Text(text, length, status, logprob, ahead),
                usage=arena.usage,
            ),
        )
        said = jnp.where(order.known[:, None], order.text.tokens, run.text.tokens)
        count = jnp.where(order.known, order.text.length, run.text.length)
        fresh = Fresh(
            parent=parents,
            alive=asked[:, None],
            size=live.astype(jnp.int32)[:, None],
            tokens=text[:, None],
            length=length[:, None],
            logprob=logprob[:, None],
            status=status.astype(jnp.int8)[:, None],
            sees=sees[:, None],
            transform=(),
            outlook=(said[:, None], count[:, None]),
            note=run.text,
        )
        named = (asked & ~opening).astype(jnp.int32)  # the token that the strategy chose
        usage = run.usage.add(emitted=named, bonus=named)
        return replace(arena, cache=run.cache, usage=usage), fresh

    def _token(self, arena: Arena, plan: _Plan, run: _Run) -> _Run:
        """Run one token of every living row, and once its node is run append the next one."""
        width, longest, text = arena.prompt.tokens.shape[1], self.max_tokens, run.text
        slot = jnp.arange(plan.sees.shape[1]) - plan.used[:, None]
        own = (slot >= 0) & (slot < run.time)
        position = arena.cache.length + text.length - jnp.maximum(plan.late - run.time, 0)
        view = View(
            position=position[:, None],
            start=width + plan.used + run.time,
            prefix=arena.cache.length,
            valid=run.live[:, None],
            beyond=jnp.pad((plan.sees | own)[:, None], ((0, 0), (0, 0), (width, 0))),
        )
        output = self.model(run.feed[:, None], run.cache, view)
        raw = output.logits[:, 0]
        value, actions = likeliest(raw, self.branch, "branch")
        cost = jnp.take_along_axis(jax.nn.log_softmax(raw), actions, axis=1)
        told = run.live & (run.time >= plan.late)
        goes = told & plan.complete
        place = jnp.where(told, text.length, longest)[:, None]
        ahead = Ahead(
            put(text.ahead.actions, place, actions[:, None]),
            put(text.ahead.prior, place, jax.nn.softmax(value)[:, None]),
            put(text.ahead.cost, place, cost[:, None]),
        )
        drawn = jnp.maximum(self.sampler(step_keys(plan.keys, text.length), value), 0)[:, None]
        token = jnp.take_along_axis(actions, drawn, axis=1)
        chosen = jnp.take_along_axis(cost, drawn, axis=1)[:, 0]
        tokens = put(text.tokens, jnp.where(goes[:, None], place, longest), token)
        length = text.length + goes
        status = jnp.where(goes & (length >= longest), Status.LENGTH, text.status)
        status = jnp.where(goes & self.stop(tokens, length), Status.EOS, status)
        # What comes next: a node that was left out, the node itself, then what was drawn.
        rest = jnp.maximum(text.length - plan.late + run.time, 0)[:, None]
        waiting = jnp.take_along_axis(tokens, jnp.minimum(rest, longest - 1), axis=1)
        feed = jnp.where(told[:, None], token, waiting)[:, 0]
        one, more = run.live.astype(jnp.int32), goes.astype(jnp.int32)
        logprob = text.logprob + jnp.where(goes, chosen, 0.0)
        return _Run(
            time=run.time + 1,
            cache=output.cache,
            feed=feed,
            live=run.live & (status == Status.RUNNING) & (goes | ~told),
            text=Text(tokens, length, status, logprob, ahead),
            usage=run.usage.add(
                emitted=more,
                bonus=more,
                target_passes=one,
                target_tokens=one,
                attended=jnp.where(run.live, position + 1, 0).astype(float),
            ),
        )


def _late(
    arena: Arena, parents: Int[Array, "B 1"], live: Bool[Array, "B"]
) -> tuple[Arena, Int[Array, "B"]]:
    """Give the next slots to those nodes on the paths that were never run; how many they are."""
    path = look(arena.path, parents)[:, 0]
    owned = jnp.any(arena.owner[:, None] == path[:, :, None], axis=2)
    waits = (path > 0) & ~owned & live[:, None]
    late = jnp.sum(waits, axis=1, dtype=jnp.int32)
    slot = arena.used[:, None] + jnp.cumsum(waits, axis=1) - 1
    owner = put(arena.owner, jnp.where(waits, slot, arena.owner.shape[1]), path)
    return replace(arena, owner=owner, used=arena.used + late), late
