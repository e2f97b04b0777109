"""A layered model that is read to different depths, token by token, with nothing lost.

Its layers are cut into segments. Every token goes through the first; through the others only
where someone wants to see what lies there. The residual stream at each cut is kept, so that a
segment can be caught up later: the tokens that stopped before it and the newest run through it
together, in chunks, and its keys and values are exactly those of a model that always runs all.
Each segment has a fill level of its own, and rolling back lowers them; what the streams hold
beyond is overwritten.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, put
from jaxdecode.draft import Spent
from jaxdecode.follower import CHUNK
from jaxdecode.lm import LayeredModel, View, prefill
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Levels:
    """How far B rows of S tokens have been read through E segments.

    Attributes:
      cache: keys and values of all layers.
      streams: [B, E - 1, S, D], the residual stream behind each segment but the last.
      fill: i32[B, E], tokens that each segment has run.
      runs: i32[B, E], passes through each segment so far.
    """

    cache: Cache
    streams: Float[Array, "B Em1 S D"]
    fill: Int[Array, "B E"]
    runs: Int[Array, "B E"]

    @classmethod
    def of(
        cls, model: LayeredModel, prompt: Prompt, segments: int, room: int, capacity: int
    ) -> Levels:
        """Read the prompts, all but their last tokens, through all layers."""
        read = prefill(model, prompt, max(capacity, prompt.tokens.shape[1]) + CHUNK)
        stream = jax.eval_shape(lambda: model.embed(prompt.tokens))
        shape = (prompt.batch, segments - 1, room, stream.shape[2])
        fill = jnp.broadcast_to(read.cache.length[:, None], (prompt.batch, segments))
        return cls(read.cache, jnp.zeros(shape, stream.dtype), fill, jnp.zeros_like(fill))

    def back(self, length: Int[Array, "B"]) -> Levels:
        """Forget what lies beyond `length` tokens."""
        return replace(self, fill=jnp.minimum(self.fill, length[:, None]))


@struct.dataclass
class Depth:
    """A reading on its way down, of the newest token of each row.

    Attributes:
      levels: see `Levels`.
      stream: f32[B, D], the newest token's residual stream where it was last run.
      spent: what it cost.
    """

    levels: Levels
    stream: Float[Array, "B D"]
    spent: Spent


def deepen(
    model: LayeredModel,
    cuts: tuple[int, ...],
    level: int,
    text: Text,
    depth: Depth,
    rows: Bool[Array, "B"],
) -> Depth:
    """Run segment `level`, static, up to the newest token of the text, on these rows.

    `cuts` are the layers before which segments end. On these rows the segments above must have
    run to the newest token.
    """
    first, last = (0, *cuts)[level], cuts[level]

    def behind(depth: Depth) -> Int[Array, "B"]:
        return jnp.where(rows, text.length - depth.levels.fill[:, level], 0)

    def body(depth: Depth) -> Depth:
        levels = depth.levels
        start, left = levels.fill[:, level], behind(depth)
        count = jnp.minimum(left, CHUNK)
        place = start[:, None] + jnp.arange(CHUNK)
        valid = jnp.arange(CHUNK) < count[:, None]
        if level == 0:
            hidden = model.embed(jnp.maximum(text.window(start, CHUNK), 0), place)
        else:
            index = jnp.clip(place, 0, levels.streams.shape[2] - 1)[..., None]
            hidden = jnp.take_along_axis(levels.streams[:, level - 1], index, axis=1)
        view = View(position=place, start=start, prefix=start, valid=valid)
        hidden, cache = model.run_layers(hidden, levels.cache, view, first, last)
        assert cache is not None
        streams = levels.streams
        if level < len(cuts) - 1:
            slot = jnp.where(valid, place, streams.shape[2])
            streams = streams.at[:, level].set(put(streams[:, level], slot, hidden))
        newest = jnp.clip(count - 1, 0)[:, None, None]
        newest = jnp.take_along_axis(hidden, newest, axis=1)[:, 0]
        attended = jnp.sum(jnp.where(valid, place + 1, 0), axis=1)
        return Depth(
            levels=replace(
                levels,
                cache=cache,
                streams=streams,
                fill=levels.fill.at[:, level].add(count),
                runs=levels.runs.at[:, level].add(count > 0),
            ),
            stream=jnp.where((count > 0)[:, None], newest, depth.stream),
            spent=bill(model, cuts, level, depth.spent, count, attended),
        )

    return jax.lax.while_loop(lambda depth: jnp.any(behind(depth) > 0), body, depth)


def bill(
    model: LayeredModel,
    cuts: tuple[int, ...],
    level: int,
    spent: Spent,
    tokens: Int[Array, "B"],
    attended: Int[Array, "B"],
) -> Spent:
    """Add a segment's run over `tokens` that saw `attended` keys in all. A layer is taken to
    cost as much as any other; passes and tokens are those of the first segment."""
    cost, share = model.cost, (cuts[level] - (0, *cuts)[level]) / max(cuts[-1], 1)
    layers = cost.parameters - output_size(model)
    flops = share * (2.0 * layers * tokens + 1.0 * cost.attention * attended)
    first = level == 0
    return Spent(
        passes=spent.passes + (tokens > 0) * first,
        tokens=spent.tokens + tokens * first,
        flops=spent.flops + flops,
    )


def output_size(model: LayeredModel) -> int:
    """Parameters of the output matrix."""
    one = jnp.zeros((1, 1), jnp.int32)
    return jax.eval_shape(lambda: model.embed(one)).shape[2] * model.vocab_size
