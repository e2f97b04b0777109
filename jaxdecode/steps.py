"""Steps of a response: pieces that end where a delimiter says, all lanes grown side by side.

Token t of lane k is run in slot used + t * K + k of the arena. Lane k's first input is the last
token of its parent, which nobody has run for it yet, as the root of any cached engine; so the
last token of a step is not in the cache until the step has children, and each child has its
own. A step that reaches `width` tokens without a delimiter ends there, and is counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.arena import Choice
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, gather, put
from jaxdecode.lm import LanguageModel, View
from jaxdecode.logits import LogitsTransform, noted
from jaxdecode.nodes import Arena, Fresh, look, strands
from jaxdecode.result import Status, Usage
from jaxdecode.sampling import argmax, row_keys, step_keys
from jaxdecode.stop import StopRule
from jaxdecode.types import Array, Bool, Float, Int, Key
from jaxdecode.whole import whole


@struct.dataclass
class StepSampler:
    """Draws steps by a generator's rules, whose `stop` ends a response.

    Attributes:
      generator: model, transform, sampler, stop and the most tokens of a response. Its meter
        and its growth of caches are of no use here.
      delimiter: ends a step, which keeps it; it cannot begin in the step before.
      width: static, the most tokens of a step.
      depth: static, the most steps; a response that is not done by then has status LENGTH.
      distinct: static; of children of one parent that are the same text only the first lives.
        The tokens of the others are counted all the same.
    """

    generator: Generator
    delimiter: StopRule
    width: int = struct.field(pytree_node=False)
    depth: int = struct.field(pytree_node=False)
    distinct: bool = struct.field(pytree_node=False, default=False)

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed")

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def transform(self) -> LogitsTransform:
        return self.generator.transform

    @property
    def max_tokens(self) -> int:
        return self.generator.max_tokens

    def grow(self, key: Key[Array, ""], arena: Arena, choice: Choice) -> tuple[Arena, Fresh]:
        """One step for every parent; `arena` comes back with the cache and the account."""
        parents, greedy, lanes = choice.parents, choice.greedy, choice.parents.shape[1]
        asked = parents >= 0
        begun, drawn_from = look(arena.length, parents), strands(arena, parents)
        ids = jnp.repeat(arena.prompt.id, lanes)
        tokens = look(arena.tokens, parents)
        last = jnp.take_along_axis(tokens, jnp.maximum(begun - 1, 0)[..., None], axis=2)[..., 0]
        sees = arena.sees(parents)
        lane = _Lanes(
            time=jnp.zeros((), jnp.int32),
            cache=arena.cache,
            feed=jnp.where(begun > 0, last, arena.root[:, None]),
            live=asked,
            tokens=tokens,
            length=begun,
            logprob=look(arena.logprob, parents),
            status=jnp.where(asked, Status.RUNNING, Status.INVALID).astype(jnp.int8),
            capped=jnp.zeros_like(asked),
            transform=gather(arena.transform, jnp.maximum(parents, 0)),
            usage=arena.usage,
        )
        keys = row_keys(key, ids, drawn_from.reshape(-1))
        lane = jax.lax.while_loop(
            lambda lane: jnp.any(lane.live),
            lambda lane: self._token(arena, keys, sees, begun, greedy, lane),
            lane,
        )
        size = lane.length - begun
        over = (look(arena.depth, parents) + 1 >= self.depth) & (lane.status == Status.RUNNING)
        alive = asked & (lane.status != Status.INVALID)
        if self.distinct:
            alive &= ~_repeats(parents, lane.tokens, lane.length, alive)
        fresh = Fresh(
            parent=parents,
            alive=alive,
            size=size,
            tokens=lane.tokens,
            length=lane.length,
            logprob=lane.logprob,
            status=jnp.where(over, Status.LENGTH, lane.status).astype(jnp.int8),
            sees=sees,
            transform=lane.transform,
        )
        capped = arena.capped + jnp.sum(lane.capped, axis=1)
        return replace(arena, cache=lane.cache, usage=lane.usage, capped=capped), fresh

    def _token(
        self,
        arena: Arena,
        keys: Key[Array, "R"],
        sees: Bool[Array, "B K X"],
        begun: Int[Array, "B K"],
        greedy: Bool[Array, "B"],
        lane: _Lanes,
    ) -> _Lanes:
        """One token more on every living lane."""
        batch, lanes = lane.live.shape
        width = arena.prompt.tokens.shape[1]
        generator, longest = self.generator, self.max_tokens
        position = arena.cache.length[:, None] + lane.length
        slot = jnp.arange(sees.shape[2]) - arena.used[:, None]
        run = (slot >= 0) & (slot < lane.time * lanes)
        own = run[:, None] & (slot[:, None] % lanes == jnp.arange(lanes)[:, None])
        view = View(
            position=position,
            start=width + arena.used + lane.time * lanes,
            prefix=arena.cache.length,
            valid=lane.live,
            block=jnp.broadcast_to(jnp.eye(lanes, dtype=bool), (batch, lanes, lanes)),
            beyond=jnp.pad(sees | own, ((0, 0), (0, 0), (width, 0))),
        )
        output = self.model(lane.feed, lane.cache, view)
        raw = whole(output.logits).reshape(batch * lanes, -1)
        edited = generator.transform.apply(lane.transform, raw)
        drawn = generator.sampler(step_keys(keys, lane.length.reshape(-1)), edited)
        drawn = jnp.where(jnp.repeat(greedy, lanes), argmax(edited), drawn)
        usable = drawn.reshape(batch, lanes) >= 0
        emits = lane.live & usable
        token = jnp.where(emits, drawn.reshape(batch, lanes), lane.feed)
        flat = token.reshape(-1)
        chosen = jnp.take_along_axis(raw, flat[:, None], axis=1)[:, 0]
        logprob = (chosen - jax.nn.logsumexp(raw, axis=1)).reshape(batch, lanes)

        rows = lane.tokens.reshape(batch * lanes, longest)
        at = jnp.where(emits, lane.length, longest).reshape(-1, 1)
        rows, length = put(rows, at, flat[:, None]), lane.length + emits
        many, size = length.reshape(-1), length - begun
        within = jnp.minimum(begun.reshape(-1, 1) + jnp.arange(self.width), longest - 1)
        piece = jnp.take_along_axis(rows, within, axis=1)
        ended = generator.stop(rows, many).reshape(batch, lanes)
        split = self.delimiter(piece, size.reshape(-1)).reshape(batch, lanes)
        status = jnp.where(emits & (length >= longest), Status.LENGTH, lane.status)
        status = jnp.where(emits & ended, Status.EOS, status)
        status = jnp.where(lane.live & ~usable, Status.INVALID, status).astype(jnp.int8)
        on = emits & (status == Status.RUNNING) & ~split
        capped = on & (size >= self.width)
        spent = jnp.sum(lane.live, axis=1)
        said = jnp.sum(emits, axis=1)
        return _Lanes(
            time=lane.time + 1,
            cache=output.cache,
            feed=token,
            live=on & ~capped,
            tokens=rows.reshape(lane.tokens.shape),
            length=length,
            logprob=lane.logprob + jnp.where(emits, logprob, 0.0),
            status=status,
            capped=lane.capped | capped,
            transform=noted(generator.transform, lane.transform, raw, flat, emits.reshape(-1)),
            usage=lane.usage.add(
                emitted=said,
                bonus=said,
                target_passes=spent,
                target_tokens=spent,
                attended=jnp.sum(jnp.where(lane.live, position + 1, 0), axis=1).astype(float),
                invalid=spent - said,
            ),
        )


class _Lanes(NamedTuple):
    """Steps under way."""

    time: Int[Array, ""]
    cache: Cache
    feed: Int[Array, "B K"]
    live: Bool[Array, "B K"]
    tokens: Int[Array, "B K L"]
    length: Int[Array, "B K"]
    logprob: Float[Array, "B K"]
    status: Int[Array, "B K"]
    capped: Bool[Array, "B K"]
    transform: Any
    usage: Usage


def _repeats(
    parents: Int[Array, "B K"],
    tokens: Int[Array, "B K L"],
    length: Int[Array, "B K"],
    alive: Bool[Array, "B K"],
) -> Bool[Array, "B K"]:
    """Which lanes spell what a lane before them with the same parent does."""
    lanes = parents.shape[1]
    same = (parents[:, :, None] == parents[:, None, :]) & alive[:, None, :]
    same &= length[:, :, None] == length[:, None, :]
    same &= jnp.all(tokens[:, :, None] == tokens[:, None], axis=3)
    return jnp.any(same & jnp.tri(lanes, k=-1, dtype=bool), axis=2)
