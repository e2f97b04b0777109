"""Grouped-query attention over cache slots, or over the new tokens of a fresh prefill.

A `Sight` is what one call's queries may see, prepared once and shared by all layers. Scores
and softmax are in float32; keys and values are never repeated to the number of query heads.
`way` chooses how a call is computed. In plain JAX long inputs are processed in chunks of
queries, so that neither the scores nor the mask of a whole prompt ever exist: the scores of a
chunk stay below `budget()` elements.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxdecode import struct
from jaxdecode.cache import Cache, arrays, streams
from jaxdecode.kernels import attention as kernel
from jaxdecode.lm import View
from jaxdecode.target import PARTS, ROWS, Target
from jaxdecode.types import Array, Bool, Float, Int
from models.config import TransformerConfig
from models.layers import soft_cap

Way = Literal["plain", "cudnn", "stream"]


def way(config: TransformerConfig, view: View, cache: Cache | None, dtype, target: Target) -> Way:
    """How the attention of a call is computed.

    "cudnn": a plain prefill on a GPU by cuDNN's flash attention. "stream": few queries over a
    cache on a TPU by a kernel that reads the filled slots once. "plain": all else, in JAX.
    """
    tokens = view.position.shape[1]
    if view.fresh:
        fused = (
            view.block is None
            and not config.attention_cap
            and config.head_dim % 8 == 0
            and config.head_dim <= 128
            and dtype in (jnp.bfloat16, jnp.float16)
            and target.platform == "gpu"
        )
        return "cudnn" if fused else "plain"
    assert cache is not None
    fits = target.interpreted or kernel.fits(tokens, config.heads, config.kv_heads)
    return "stream" if fits and streams(cache, target) else "plain"


def budget(target: Target) -> int:
    """Elements of one chunk's scores: 16 MB suit a CPU's caches, 256 MB keep a GPU or TPU busy."""
    return 2**22 if target.platform == "cpu" else 2**26


@struct.dataclass
class Sight:
    """Visibility of S keys to T queries, for full and for sliding layers.

    Attributes:
      view: the call's view, with slots counted from the first key given to `attend`.
      key_position: i32[B, S].
      window: static; keys at distance >= window are hidden from sliding layers, 0 for none.
      way: static; see `way`.
      target: static, what the program is compiled for.
      seen, near: the masks bool[B, T, S] where the call is short enough, else None.
      streamed: what the kernel is to stream, for full layers and for sliding ones.
    """

    view: View
    key_position: Int[Array, "B S"]
    window: int = struct.field(pytree_node=False)
    way: Way = struct.field(pytree_node=False)
    target: Target = struct.field(pytree_node=False)
    seen: Bool[Array, "B T S"] | None = None
    near: Bool[Array, "B T S"] | None = None
    streamed: tuple[kernel.Seen, kernel.Seen | None] | None = None

    @classmethod
    def of(
        cls, config: TransformerConfig, view: View, cache: Cache | None, dtype, target: Target
    ) -> Sight:
        """Prepare a call."""
        position = view.position if cache is None else cache.position
        how = way(config, view, cache, dtype, target)
        if view.fresh:  # the keys are the call's own tokens, not the cache
            zero = jnp.zeros_like(view.start)
            view = dataclasses.replace(view, start=zero, prefix=zero, beyond=None)
            position = view.position
        sight = cls(view=view, key_position=position, window=config.window, way=how, target=target)
        tokens = view.position.shape[1]
        if how == "stream":
            seen, near = sight.masks(0, tokens)
            each = config.heads // config.kv_heads
            parts = target.size(PARTS) if target.axis(PARTS, config.kv_heads) else 1
            numbers = each, config.kv_heads // parts, config.head_dim, jnp.dtype(dtype).itemsize
            full = kernel.Seen.of(seen, *numbers)
            sliding = None if near is None else kernel.Seen.of(seen & near, *numbers)
            return dataclasses.replace(sight, streamed=(full, sliding))
        if sight.chunk(config.heads) >= tokens:
            seen, near = sight.masks(0, tokens)
            sight = dataclasses.replace(sight, seen=seen, near=near)
        return sight

    def chunk(self, heads: int) -> int:
        """Queries processed at a time."""
        batch, slots = self.key_position.shape
        return max(16, budget(self.target) // (batch * heads * slots))

    def masks(self, first: Int[Array, ""] | int, count: int) -> tuple[Array, Array | None]:
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
    def part(first: Int[Array, ""] | int, count: int) -> Array:
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


def attend_streaming(
    config: TransformerConfig,
    sight: Sight,
    q: Float[Array, "B T H hd"],
    cache: Cache,
    layer,
    local: Bool[Array, ""] | bool,
) -> Float[Array, "B T H hd"]:
    """Attention of few queries over the cache, by the kernel, on each device for itself."""
    assert sight.streamed is not None
    k, v, layer = arrays(cache, layer)
    seen, near = sight.streamed
    if near is not None and local is not False:
        seen = (
            near if local is True else jax.tree.map(lambda a, b: jnp.where(local, a, b), near, seen)
        )

    def run(q, k, v, layer, seen):
        scale, cap = config.query_scale, config.attention_cap
        return kernel.attend(q, k, v, layer, seen, scale, cap, sight.target.interpreted)

    rows = sight.target.axis(ROWS, q.shape[0])
    parts = sight.target.axis(PARTS, config.kv_heads)
    held, queries = PartitionSpec(None, rows, parts), PartitionSpec(rows, None, parts)
    specs = (queries, held, held, PartitionSpec(), PartitionSpec(rows))
    run = sight.target.per_device(run, specs, queries)
    return run(q, k, v, jnp.asarray(layer, jnp.int32), seen)


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
