"""Process rewards of models that want a question and its steps written in their own way.

A published judge reads no plain response: a tag stands after every step, or every step is a
turn of a conversation, and the question has a frame of its own. `Tags` are the tokens of that
writing, `TaggedReward` writes every path so and reads the reward of its last step:

    opening question closing  step separator joint  step separator joint ... step separator

A text is read as a whole for each of its steps, one pass each; `ProcessReward`, for judges of
plain responses, reads every token once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import put
from jaxdecode.lm import extend
from jaxdecode.nodes import Arena, Fresh, look
from jaxdecode.process_reward import Judgement, bounded
from jaxdecode.scoring import RewardModel, Spent
from jaxdecode.types import Array, Float, Int

Where = Literal["separator", "before"]


@struct.dataclass
class Tags:
    """How a judge wants a solution written, in tokens.

    Attributes:
      opening, closing: around the question; each may have none.
      separator: i32[W], ends a step, W at least 1.
      joint: between a separator and the next step; may have none.
      at: static, where the reward is read: at the separator's last token or "before" it.
    """

    opening: Int[Array, "O"]
    closing: Int[Array, "C"]
    separator: Int[Array, "W"]
    joint: Int[Array, "J"]
    at: Where = struct.field(pytree_node=False, default="separator")

    def __post_init__(self) -> None:
        if self.at not in get_args(Where):
            raise ValueError(f"at={self.at!r}: use one of {', '.join(get_args(Where))}")
        if getattr(self.separator, "shape", (1,)) == (0,):
            raise ValueError("separator: without a token there is no place to read a reward at")

    @classmethod
    def of(
        cls,
        opening: Sequence[int],
        closing: Sequence[int],
        separator: Sequence[int],
        joint: Sequence[int] = (),
        at: Where = "separator",
    ) -> Tags:
        """From lists of ids."""
        begin, close, end, join = (
            jnp.asarray(list(ids), jnp.int32) for ids in (opening, closing, separator, joint)
        )
        return cls(begin, close, end, join, at)


@struct.dataclass
class TaggedReward:
    """The reward of a step by a judge that reads `tags`.

    Attributes:
      model: shares the generator's vocabulary.
      delimiter: i32[D], what ends a step of the generator; the judge is not shown it.
      unread: i32[U], end tokens, which it is not shown either.
      skip: static, tokens of the generator's prompt before and after the question.
    """

    model: RewardModel
    tags: Tags
    delimiter: Int[Array, "D"]
    unread: Int[Array, "U"]
    skip: tuple[int, int] = struct.field(pytree_node=False, default=(0, 0))

    def init(self, arena: Arena) -> tuple[Judgement, Spent]:
        batch = arena.prompt.batch
        return Judgement(jnp.zeros((batch,), jnp.int32)), Spent.nothing(batch)

    def written(self, arena: Arena, fresh: Fresh) -> tuple[Int[Array, "B K T"], Int[Array, "B K"]]:
        """The texts as the judge reads them, and their lengths."""
        tags, prompt = self.tags, arena.prompt
        front, back = self.skip
        begun = tags.opening.shape[0]
        asked = jnp.maximum(prompt.length - front - back, 0)[:, None]  # [B, 1]
        head = begun + asked + tags.closing.shape[0]
        mark = jnp.concatenate([tags.separator, tags.joint])
        batch, lanes, longest = fresh.tokens.shape
        steps = arena.path.shape[2] - 1

        # Where each step ends: behind the ancestors, and behind the new step itself.
        path = look(arena.path, fresh.parent)
        ancestors = jnp.where(path > 0, _lengths(arena, path), longest + 1)  # [B, K, E]
        ends = jnp.sort(
            jnp.concatenate([ancestors[..., 1:], fresh.length[..., None]], axis=2), axis=2
        )
        count = look(arena.depth, fresh.parent) + 1
        place = jnp.arange(longest)
        step = jnp.sum(ends[:, :, None] <= place[:, None], axis=3)  # [B, K, L]
        shown = (place < fresh.length[..., None]) & ~self._hidden(fresh.tokens, step, ends)
        before = jnp.cumsum(shown, axis=2) - shown
        room = prompt.tokens.shape[1] + begun + tags.closing.shape[0] + longest
        room += (steps + 1) * mark.shape[0]

        rows = jnp.zeros((batch, lanes, room), jnp.int32)
        rows = rows.at[..., :begun].set(tags.opening)
        at = begun + jnp.arange(prompt.tokens.shape[1]) - front
        inside = (at >= begun) & (at < begun + asked)
        question = jnp.where(inside, at, room)[:, None]
        rows = _write(rows, question, prompt.tokens[:, None])
        rows = _write(
            rows, (head - tags.closing.shape[0] + _range(tags.closing))[:, None], tags.closing
        )
        target = head[..., None] + before + step * mark.shape[0]
        rows = _write(rows, jnp.where(shown, target, room), fresh.tokens)
        until = jnp.sum(shown[:, :, None] & (place < ends[..., None]), axis=3)  # [B, K, E]
        order = jnp.arange(ends.shape[2])
        first = head[..., None] + until + order * mark.shape[0]
        there = order < count[..., None]
        marks = jnp.where(there[..., None], first[..., None] + _range(mark), room)
        rows = _write(
            rows,
            marks.reshape(batch, lanes, -1),
            jnp.broadcast_to(mark, marks.shape).reshape(batch, lanes, -1),
        )
        last = jnp.take_along_axis(first, count[..., None] - 1, axis=2)[..., 0]
        return rows, last + tags.separator.shape[0]

    def _hidden(self, tokens: Array, step: Array, ends: Array) -> Array:
        """Tokens that the judge is not shown: delimiters at the ends of steps, end tokens."""
        hidden = jnp.any(tokens[..., None] == self.unread, axis=3)
        width, longest = self.delimiter.shape[0], tokens.shape[2]
        place = jnp.arange(longest)
        begins = place[:, None] + _range(self.delimiter)  # [L, D]
        at = jnp.minimum(begins, longest - 1)
        spelled = jnp.all(tokens[..., at] == self.delimiter, axis=3)
        spelled &= jnp.any(ends[:, :, None] == (place + width)[:, None], axis=3)
        spelled &= step[..., at[:, -1]] == step  # it cannot begin in the step before
        for offset in range(width):
            shifted = jnp.pad(spelled, ((0, 0), (0, 0), (offset, 0)))[..., :longest]
            hidden |= shifted
        return hidden

    def score(
        self, state: Judgement, arena: Arena, fresh: Fresh
    ) -> tuple[Float[Array, "B K"], Judgement, Spent]:
        rows, length = self.written(arena, fresh)
        batch, lanes, room = rows.shape
        valid = jnp.arange(room) < length[..., None]
        empty = self.model.init_cache(batch * lanes, room)
        output = extend(
            self.model,
            rows.reshape(batch * lanes, room),
            empty,
            valid=valid.reshape(batch * lanes, room),
            fresh=True,
        )
        at = (length - 1 - (self.tags.at == "before")).reshape(-1, 1, 1)
        outputs = jnp.take_along_axis(output.logits, at, axis=1)[:, 0]
        reward, outside = bounded(self.model.reward(outputs).reshape(batch, lanes))
        read = jnp.where(fresh.alive, length, 0)
        spent = Spent.reading(self.model.cost, jnp.zeros_like(read), read)
        spent = Spent(*(jnp.sum(n, axis=1) for n in (spent.passes, spent.tokens, spent.flops)))
        counted = state.outside + jnp.sum(outside & fresh.alive, axis=1)
        return reward, replace(state, outside=counted), spent


def _lengths(arena: Arena, path: Int[Array, "B K E"]) -> Int[Array, "B K E"]:
    """How long the responses of the nodes of a path are."""
    batch, lanes, depth = path.shape
    return look(arena.length, path.reshape(batch, -1)).reshape(batch, lanes, depth)


def _range(tokens: Array) -> Int[Array, "N"]:
    return jnp.arange(tokens.shape[0])


def _write(rows: Int[Array, "B K T"], at: Any, tokens: Any) -> Int[Array, "B K T"]:
    """rows[b, k, at] = tokens; what lies beyond is dropped."""
    batch, lanes, room = rows.shape
    at = jnp.broadcast_to(at, (batch, lanes, at.shape[-1])).reshape(batch * lanes, -1)
    tokens = jnp.broadcast_to(tokens, (batch, lanes, tokens.shape[-1])).reshape(at.shape)
    return put(rows.reshape(batch * lanes, room), at, tokens).reshape(rows.shape)
