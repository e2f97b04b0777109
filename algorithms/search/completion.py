"""The expander of a tree of tokens: a node of a given token, and the greedy text behind it.

The node's token is run once, in a slot of its own; what completes it is run in the slots that
follow and leaves nothing behind. The first node of a row is the prompt's last token, whose
text is empty.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.arena import Choice
from jaxdecode.cache import Cache, put
from jaxdecode.lm import LanguageModel, View
from jaxdecode.logits import Identity
from jaxdecode.nodes import NONE, Arena, Fresh, look
from jaxdecode.result import Status, Usage
from jaxdecode.sampling import argmax
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int, Key


class Order(NamedTuple):
    """The token to make a node of, whether to complete it, and what is known to complete it."""

    token: Int[Array, "B"]
    complete: Bool[Array, "B"]
    known: Int[Array, "B"]
    text: Int[Array, "B L"]
    length: Int[Array, "B"]
    logprob: Float[Array, "B"]


class Outlook(NamedTuple):
    """A node's completed text; the k tokens that may follow it, P and log-probs of theirs."""

    text: Int[Array, "B L"]
    length: Int[Array, "B"]
    status: Int[Array, "B"]
    logprob: Float[Array, "B"]
    actions: Int[Array, "B k"]
    prior: Float[Array, "B k"]
    cost: Float[Array, "B k"]


class _Run(NamedTuple):
    time: Int[Array, ""]
    cache: Cache
    feed: Int[Array, "B"]
    live: Bool[Array, "B"]
    out: Outlook
    usage: Usage


@struct.dataclass
class Completion:
    """The expander: one node of a given token, and the greedy completion behind it."""

    model: LanguageModel
    stop: StopRule
    max_tokens: int = struct.field(pytree_node=False)
    branch: int = struct.field(pytree_node=False)

    @property
    def transform(self) -> Identity:
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
        begun = look(arena.length, parents)[:, 0]
        longest, sees = self.max_tokens, arena.sees(parents)
        at = jnp.where(opening, longest, begun)[:, None]
        text = put(look(arena.tokens, parents)[:, 0], at, order.token[:, None])
        length = jnp.where(opening, 0, begun + 1)
        status = jnp.where(length >= longest, Status.LENGTH, Status.RUNNING)
        status = jnp.where(self.stop(text, length), Status.EOS, status)
        status = jnp.where(opening, Status.RUNNING, status)
        batch = status.shape[0]
        out = Outlook(
            text=text,
            length=length,
            status=status,
            logprob=look(arena.logprob, parents)[:, 0] + order.logprob,
            actions=jnp.full((batch, self.branch), NONE, jnp.int32),
            prior=jnp.zeros((batch, self.branch), jnp.float32),
            cost=jnp.zeros((batch, self.branch), jnp.float32),
        )
        run = jax.lax.while_loop(
            lambda run: jnp.any(run.live),
            lambda run: self._token(arena, sees, order.complete, run),
            _Run(
                time=jnp.zeros((), jnp.int32),
                cache=arena.cache,
                feed=order.token,
                live=asked & (status == Status.RUNNING),
                out=out,
                usage=arena.usage,
            ),
        )
        known = order.known >= 0
        text_said = jnp.where(known[:, None], order.text, run.out.text)
        length_said = jnp.where(known, order.length, run.out.length)
        fresh = Fresh(
            parent=parents,
            alive=asked[:, None],
            size=asked[:, None].astype(jnp.int32),
            tokens=text[:, None],
            length=length[:, None],
            logprob=out.logprob[:, None],
            status=status.astype(jnp.int8)[:, None],
            sees=sees,
            transform=(),
            outlook=(text_said[:, None], length_said[:, None]),
            note=run.out,
        )
        named = (asked & ~opening).astype(jnp.int32)  # the token that the strategy chose
        usage = run.usage.add(emitted=named, bonus=named)
        return replace(arena, cache=run.cache, usage=usage), fresh

    def _token(self, arena: Arena, sees: Array, complete: Array, run: _Run) -> _Run:
        """Run one token of every living row, and append the most probable next one."""
        width, longest, out = arena.prompt.tokens.shape[1], self.max_tokens, run.out
        slot = jnp.arange(sees.shape[2]) - arena.used[:, None]
        own = (slot >= 0) & (slot < run.time)
        position = arena.cache.length + out.length
        view = View(
            position=position[:, None],
            start=width + arena.used + run.time,
            prefix=arena.cache.length,
            valid=run.live[:, None],
            beyond=jnp.pad(sees | own[:, None], ((0, 0), (0, 0), (width, 0))),
        )
        output = self.model(run.feed[:, None], run.cache, view)
        raw = output.logits[:, 0]
        logp = jax.nn.log_softmax(raw)
        opening = (run.time == 0) & run.live
        value, actions = jax.lax.top_k(raw, self.branch)
        goes = run.live & complete
        token = argmax(raw)
        text = put(out.text, jnp.where(goes, out.length, longest)[:, None], token[:, None])
        length = out.length + goes
        status = jnp.where(goes & (length >= longest), Status.LENGTH, out.status)
        status = jnp.where(goes & self.stop(text, length), Status.EOS, status)
        chosen = jnp.take_along_axis(logp, jnp.maximum(token, 0)[:, None], axis=1)[:, 0]
        one, said = run.live.astype(jnp.int32), goes.astype(jnp.int32)
        return _Run(
            time=run.time + 1,
            cache=output.cache,
            feed=token,
            live=goes & (status == Status.RUNNING),
            out=Outlook(
                text=text,
                length=length,
                status=status,
                logprob=out.logprob + jnp.where(goes, chosen, 0.0),
                actions=jnp.where(opening[:, None], actions, out.actions),
                prior=jnp.where(opening[:, None], jax.nn.softmax(value), out.prior),
                cost=jnp.where(
                    opening[:, None], jnp.take_along_axis(logp, actions, axis=1), out.cost
                ),
            ),
            usage=run.usage.add(
                emitted=said,
                bonus=said,
                target_passes=one,
                target_tokens=one,
                attended=jnp.where(run.live, position + 1, 0).astype(float),
            ),
        )
