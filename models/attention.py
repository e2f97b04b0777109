"""Grouped-query attention over cache slots, or over the new tokens of a fresh prefill.

A `Sight` is what one call's queries may see, prepared once and shared by all layers. Scores
and softmax are in float32; keys and values are never repeated to the number of query heads.
Long inputs are processed in chunks of queries, so that neither the scores nor the mask of a
whole prompt ever exist: the scores of a chunk stay below `budget()` elements.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.lm import View
from jaxdecode.types import Array, Bool, Float, Int
from models.config import TransformerConfig
from models.layers import soft_cap


def budget() -> int:
    """Elements of one chunk's scores: 16 MB suit a CPU's caches, 256 MB keep a GPU or TPU busy."""
    return 2**22 if jax.default_backend() == "cpu" else 2**26


@struct.dataclass
class Sight:
    """Visibility of S keys to T queries, for full and for sliding layers.

    Attributes:
      view: the call's view, with slots counted from the first key given to `attend`.
      key_position: i32[B, S].
      window: static; keys at distance >= window are hidden from sliding layers, 0 for none.
      seen, near: the masks bool[B, T, S] where the call is short enough, else None.
    """

    view: View
    key_position: Int[Array, "B S"]
    window: int = struct.field(pytree_node=False)
    seen: Bool[Array, "B T S"] | None = None
    near: Bool[Array, "B T S"] | None = None

    @classmethod
    def of(cls, config: TransformerConfig, view: View, position: Int[Array, "B S"]) -> Sight:
        """Prepare a call; `position` are those of the cache's slots."""
        if view.fresh:  # the keys are the call's own tokens, not the cache
            zero = jnp.zeros_like(view.start)
            view = dataclasses.replace(view, start=zero, prefix=zero, beyond=None)
            position = view.position
        sight = cls(view=view, key_position=position, window=config.window)
        tokens = view.position.shape[1]
        if sight.chunk(config.heads) >= tokens:
            seen, near = sight.masks(0, tokens)
            sight = dataclasses.replace(sight, seen=seen, near=near)
        return sight

    def chunk(self, heads: int) -> int:
        """Queries processed at a time."""
        batch, slots = self.key_position.shape
        return max(16, budget() // (batch * heads * slots))

    def masks(self, first: Int | int, count: int) -> tuple[Array, Array | None]:
        """What queries first..first+count see in a full layer, and what is in the window."""
        seen = self.view.mask(self.key_position.shape[1], first, count)
        if not self.window:
            return seen, None
        query = jax.lax.dynamic_slice_in_dim(self.view.position, first, count, axis=1)
        return seen, query[:, :, None] - self.key_position[:, None, :] < self.window


def attend(
    config: TransformerConfig,
    sight: Sight,
    q: Float[Array, "B T H hd"],
    k: Float[Array, "B Kv hd S"],
    v: Float[Array, "B Kv S hd"],
    local: Bool[Array, ""] | bool,
) -> Float[Array, "B T H hd"]:
    """Attention of all queries; `local` says whether this layer slides."""

    def visible(masks: tuple[Array, Array | None]) -> Array:
        seen, near = masks
        if near is None or local is False:
            return seen
        return seen & near if local is True else seen & (near | ~local)

    if sight.seen is not None:
        return _attend(config, q, k, v, visible((sight.seen, sight.near)))
    tokens, size = q.shape[1], sight.chunk(config.heads)
    chunks = tokens // size

    # Scores are recomputed in a backward pass instead of being kept for every chunk.
    @functools.partial(jax.checkpoint, static_argnums=1)
    def part(first: Int | int, count: int) -> Array:
        queries = jax.lax.dynamic_slice_in_dim(q, first, count, axis=1)
        return _attend(config, queries, k, v, visible(sight.masks(first, count)))

    whole = jax.lax.map(lambda i: part(i * size, size), jnp.arange(chunks))
    whole = jnp.moveaxis(whole, 0, 1).reshape(q.shape[0], chunks * size, *q.shape[2:])
    if chunks * size == tokens:
        return whole
    return jnp.concatenate([whole, part(chunks * size, tokens - chunks * size)], axis=1)


def _attend(config: TransformerConfig, q: Array, k: Array, v: Array, mask: Array) -> Array:
    """softmax(cap(scale * q k) + mask) v for queries whose scores fit in memory."""
    batch, tokens, heads, width = q.shape
    groups = config.kv_heads
    # Plain matrix products with the few queries on the left, all that share a key in one: an
    # einsum over the five axes turns them about, and takes 1.4-3 times as long on a CPU.
    q = q.reshape(batch, tokens, groups, -1, width).transpose(0, 2, 3, 1, 4)
    grouped = q.reshape(batch, groups, -1, width)
    scores = jnp.matmul(grouped, k, preferred_element_type=jnp.float32)
    scores = scores.reshape(*q.shape[:4], -1)
    scores = soft_cap(scores * config.query_scale, config.attention_cap)
    # A finite bound keeps a query that sees nothing finite: it is padding, and is ignored.
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    mixed = jnp.matmul(weights.reshape(*grouped.shape[:3], -1), v).reshape(q.shape)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(batch, tokens, heads, width)


def fused(config: TransformerConfig, view: View, dtype) -> bool:
    """Whether cuDNN's flash attention computes this call: a plain prefill on a GPU."""
    return (
        view.fresh
        and view.block is None
        and not config.attention_cap
        and config.head_dim % 8 == 0
        and config.head_dim <= 128
        and dtype in (jnp.bfloat16, jnp.float16)
        and jax.default_backend() == "gpu"
    )


def attend_fused(
    config: TransformerConfig,
    q: Float[Array, "B T H hd"],
    k: Float[Array, "B T Kv hd"],
    v: Float[Array, "B T Kv hd"],
    local: Bool[Array, ""] | bool,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "B T H hd"]:
    """Causal attention of a fresh prefill, whose valid tokens come first at rising positions.

    Padding follows the valid tokens, so causality alone hides it from them.
    """

    def run(window: int) -> Array:
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            scale=config.query_scale,
            is_causal=True,
            local_window_size=(window - 1, 0) if window else None,
            implementation=implementation,
        )

    if isinstance(local, bool):
        return run(config.window if local else 0)
    return jax.lax.cond(local, lambda: run(config.window), lambda: run(0))
