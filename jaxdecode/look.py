"""One pass of a denoiser over canvases: which places are run, and what is read from a cache.

Without a cache every pass runs the whole canvas. With one, a pass that enters a block does, and
stores keys and values; those that follow run the block and what the cache does not hold:

    "prefix"  the block and everything after it, against what was stored before the block;
    "dual"    the block alone, against what was stored before and after it.

What is stored was computed when the block was entered, and is stale as soon as the block
changes: an approximation (Fast-dLLM, arXiv 2505.22618), exact for one pass a block or if filled
in every pass. In a denoiser whose blocks see only those before them nothing goes stale: a
"prefix" cache is exact, only the block is run, and entering one runs the block before it too,
whose tokens are now final.

Where logits stand one place to the left, the place before the block is run with it, so that the
block's first place is guessed from its present neighbours. (The published loop decides that
place from the pass that enters the block.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache
from jaxdecode.canvas import Canvas, places
from jaxdecode.denoiser import Denoiser
from jaxdecode.lm import ModelOutput, View
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class Frame:
    """The places that a pass runs: `width` of them from `begin` on, those below `end`.

    Attributes:
      prefix: i32[R], slots of the cache below it are seen; None: the pass sees its own places
        alone, which is what a cache is filled by.
    """

    begin: Int[Array, "R"]
    end: Int[Array, "R"]
    prefix: Int[Array, "R"] | None
    width: int = struct.field(pytree_node=False)

    def run(self, denoiser: Denoiser, tokens: Int[Array, "R C"], cache: Cache) -> ModelOutput:
        at = places(self.begin, self.width)
        fresh = self.prefix is None
        view = View(
            position=at,
            start=self.begin,
            prefix=jnp.zeros_like(self.begin) if self.prefix is None else self.prefix,
            valid=at < self.end[:, None],
            block=denoiser.visible(at, at),
            fresh=fresh,
        )
        text = jnp.take_along_axis(tokens, jnp.clip(at, 0, tokens.shape[1] - 1), axis=1)
        return denoiser.model(text, cache, view)

    def standing(self, denoiser: Denoiser, hidden: Array, at: Int[Array, "R T"]) -> Array:
        """The hidden states whose logits are those of these places."""
        index = jnp.clip(at - self.begin[:, None] - int(denoiser.shift), 0, self.width - 1)
        return jnp.take_along_axis(hidden, index[..., None], axis=1)

    def counts(self, denoiser: Denoiser) -> tuple[Int[Array, "R"], Float[Array, "R"]]:
        """Tokens run, and the keys that they see in all."""
        at = places(self.begin, self.width)
        valid = at < self.end[:, None]
        reach = self.end if self.prefix is None else jnp.maximum(self.end, self.prefix)
        reach = jnp.broadcast_to(reach[:, None], at.shape)
        if denoiser.causal_blocks is not None:
            size = denoiser.causal_blocks
            reach = jnp.minimum(reach, (at // size + 1) * size)
        seen = jnp.sum(jnp.where(valid, reach, 0).astype(jnp.float32), axis=1)
        return jnp.sum(valid, axis=1), seen


class Seen(NamedTuple):
    """What a pass gives.

    Attributes:
      hidden: f32[R, B, D], of the block's places, where their logits stand.
      foreseen: what `foresee` made of the pass, f32[R, C].
      cache: with what the pass stored.
      acting: bool[R], the rows that the pass was for.
      filling: bool[], whether it filled the cache anew.
      tokens, attended: what it ran and saw, per row.
    """

    hidden: Float[Array, "R B D"]
    foreseen: Float[Array, "R C"]
    cache: Cache
    acting: Bool[Array, "R"]
    filling: Bool[Array, ""]
    tokens: Int[Array, "R"]
    attended: Float[Array, "R"]


Foresee = Callable[[Any, Frame], Float[Array, "R C"]]
"""(hidden states of a frame, the frame) -> a number for every place of the canvas."""


@struct.dataclass
class Looker:
    """How passes are made; see the module.

    Attributes:
      denoiser: the model.
      block: static, places of a block.
      cache: static, what is kept between passes.
      refresh: static; fill the cache anew after so many passes of a block, None for never.
      span: static; the most places from a block's first to the canvas's end.
      halvings: static; passes over many places run on the smallest of so many halves that
        holds the longest row, each one more program to compile.
    """

    denoiser: Denoiser
    block: int = struct.field(pytree_node=False)
    cache: str = struct.field(pytree_node=False)
    refresh: int | None = struct.field(pytree_node=False)
    span: int = struct.field(pytree_node=False)
    halvings: int = struct.field(pytree_node=False)
    lingers: bool = struct.field(pytree_node=False)

    def end(self, canvas: Canvas, acting: Bool[Array, "R"]) -> Int[Array, "R"]:
        """End of what is run: of the canvas, or of the block where nothing sees beyond it."""
        end = canvas.limit
        if self.denoiser.causal_blocks is not None:
            end = jnp.minimum(end, canvas.first + self.block)
        return jnp.where(acting, end, 0)

    def wide(self, canvas: Canvas, acting: Bool[Array, "R"], width: int) -> Frame:
        """The canvas from its first place on."""
        return Frame(jnp.zeros_like(canvas.first), self.end(canvas, acting), None, width)

    def narrow(
        self, canvas: Canvas, acting: Bool[Array, "R"], width: int, before: int = 0
    ) -> Frame:
        """From the block on, or from `before` places before it."""
        begin = jnp.maximum(canvas.first - before - int(self.denoiser.shift), 0)
        prefix = begin
        if self.cache == "dual":
            prefix = canvas.held if self.lingers else canvas.limit
        return Frame(begin, self.end(canvas, acting), prefix, width)

    @property
    def reach(self) -> int:
        """Places of a pass against the cache."""
        alone = self.cache == "dual" or self.denoiser.causal_blocks is not None
        return (self.block if alone else self.span) + int(self.denoiser.shift)

    def sizes(self, most: int) -> list[int]:
        """Widths to choose from, ascending."""
        return sorted({-(-most // 2**i) for i in range(self.halvings + 1)})

    def __call__(
        self, canvas: Canvas, cache: Cache, active: Bool[Array, "R"], foresee: Foresee | None
    ) -> Seen:
        """One pass for as many of the active rows as one kind of pass serves."""
        denoiser, at = self.denoiser, places(canvas.first, self.block)

        def made(frame: Frame, cache: Cache) -> tuple[Any, ...]:
            output = frame.run(denoiser, canvas.tokens, cache)
            ahead = jnp.zeros(canvas.tokens.shape, jnp.float32)
            if foresee is not None:
                ahead = foresee(output.hidden, frame)
            hidden = frame.standing(denoiser, output.hidden, at)
            return (hidden, ahead, output.cache, *frame.counts(denoiser))

        def fitting(frames: list[Frame], cache: Cache) -> tuple[Any, ...]:
            """By the narrowest of these frames that holds every row."""
            need = jnp.max(frames[0].end - frames[0].begin)
            index = sum((need > frame.width).astype(jnp.int32) for frame in frames[:-1])
            branches = [lambda cache, frame=frame: made(frame, cache) for frame in frames]
            return (
                branches[0](cache) if len(frames) == 1 else jax.lax.switch(index, branches, cache)
            )

        def whole(acting: Array, cache: Cache) -> tuple[Any, ...]:
            return fitting([self.wide(canvas, acting, n) for n in self.sizes(canvas.width)], cache)

        if self.cache == "none":
            empty = denoiser.model.init_cache(canvas.tokens.shape[0], canvas.width)
            hidden, ahead, _, *counts = whole(active, empty)
            return Seen(hidden, ahead, cache, active, jnp.array(True), *counts)

        stale = canvas.filled != canvas.first
        if self.refresh is not None:
            stale |= canvas.age >= self.refresh
        ready = active & ~stale
        filling = ~jnp.any(ready)
        acting = jnp.where(filling, active, ready)

        def kept(cache: Cache) -> tuple[Any, ...]:
            widths = [self.reach]
            if self.reach > self.block + int(denoiser.shift):
                widths = self.sizes(self.reach)
            return fitting([self.narrow(canvas, acting, n) for n in widths], cache)

        def entered(cache: Cache) -> tuple[Any, ...]:
            width = 2 * self.block + int(denoiser.shift)
            return made(self.narrow(canvas, acting, width, self.block), cache)

        branches = [kept, lambda cache: whole(acting, cache)]
        kind = filling.astype(jnp.int32)
        if denoiser.causal_blocks is not None:
            near = (canvas.filled >= 0) & (canvas.first - canvas.filled <= self.block)
            branches.append(entered)
            kind += filling & jnp.all(near | ~active)
        hidden, ahead, cache, *counts = jax.lax.switch(kind, branches, cache)
        return Seen(hidden, ahead, cache, acting, filling, *counts)
