"""The contract of a causal language model, and `extend`, the one way to run it.

A model is a pytree. A call runs T new tokens of every row against the row's cache; a `View`
says where those tokens sit and what they see. `extend` builds the view for prefill, a single
step, a tree of drafts and a bidirectional block alike: the new tokens see the row's prefix
plus a pattern among themselves. The prefix-plus-block form is what a fast attention can use
without an algorithm knowing; `View.mask` spells it out for models that do not care.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import chex
import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, truncate
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class View:
    """Where T new tokens sit in the cache, and what each of them sees.

    Token t is stored in slot start + t. It sees the slots below `prefix`, the tokens of this
    call that `block` names (itself included), and the slots that `beyond` names.

    Attributes:
      position: i32[B, T], positions for the model's position encoding.
      start: i32[B], slot of token 0.
      prefix: i32[B], slots below it are seen by every token.
      valid: bool[B, T]; an invalid token is not written and nobody sees it. With
        block=None the valid tokens of a row must come first.
      block: bool[B, T, T] (query, key) or None for "token t sees tokens 0..t".
      beyond: bool[B, T, S] or None, further slots seen: ancestors in an arena.
      fresh: static; the cache is empty, so that only the block is seen.
    """

    position: Int[Array, "B T"]
    start: Int[Array, "B"]
    prefix: Int[Array, "B"]
    valid: Bool[Array, "B T"]
    block: Bool[Array, "B T T"] | None = None
    beyond: Bool[Array, "B T S"] | None = None
    fresh: bool = struct.field(pytree_node=False, default=False)

    def slot(self, capacity: int) -> Int[Array, "B T"]:
        """Slots of the new tokens; `capacity` marks a token that is not to be written."""
        slot = self.start[:, None] + jnp.arange(self.valid.shape[1])
        return jnp.where(self.valid, slot, capacity)

    def mask(
        self, capacity: int, first: Int[Array, ""] | int = 0, count: int | None = None
    ) -> Array:
        """bool[B, count, capacity]: the slots seen by queries first..first+count."""
        tokens = self.valid.shape[1]
        count = tokens if count is None else count
        query = first + jnp.arange(count)
        slots = jnp.arange(capacity)
        offset = slots - self.start[:, None]  # index among the new tokens, [B, S]
        if self.block is None:
            seen = (offset[:, None, :] >= 0) & (offset[:, None, :] <= query[:, None])
        else:
            block = jnp.take(self.block & self.valid[:, None, :], query, axis=1)
            index = jnp.clip(offset, 0, tokens - 1)[:, None, :]
            seen = jnp.take_along_axis(block, index, axis=2)
            seen &= ((offset >= 0) & (offset < tokens))[:, None, :]
        seen |= (slots < self.prefix[:, None])[:, None, :]
        if self.beyond is not None:
            seen |= jnp.take(self.beyond, query, axis=1)
        return seen


@struct.dataclass
class ModelOutput:
    """What a call returns: logits over the valid vocabulary, final hidden states, cache."""

    logits: Float[Array, "B T V"]
    hidden: Float[Array, "B T D"]
    cache: Cache


@struct.dataclass
class ModelCost:
    """Static cost of a model, for honest accounting.

    FLOPs of a pass = 2 * parameters per token + attention per (query, key) pair.
    """

    # Counted on the host, where numbers have no end.
    parameters: int = struct.field(pytree_node=False, range=(0, 2**63))
    attention: int = struct.field(pytree_node=False, range=(0, 2**63))
    cache_bytes: int = struct.field(pytree_node=False, range=(0, 2**63))


@runtime_checkable
class Backbone(Protocol):
    """Anything that runs tokens against a cache; an implementation is itself a pytree."""

    def init_cache(self, batch: int, capacity: int) -> Cache: ...

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        """Write the tokens into the cache and return float32 outputs; `length` stays."""
        ...


@runtime_checkable
class LanguageModel(Backbone, Protocol):
    """A causal model over `vocab_size` tokens."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_positions(self) -> int | None:
        """The longest text that has a position for every token; None where there is no end."""
        ...

    @property
    def cost(self) -> ModelCost: ...

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Logits of final hidden states, float32."""
        ...


@runtime_checkable
class LayeredModel(LanguageModel, Protocol):
    """A model whose layers can be run in parts."""

    def embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "B T"] | None = None
    ) -> Float[Array, "B T D"]: ...

    def run_layers(
        self,
        hidden: Float[Array, "B T D"],
        cache: Cache | None,
        view: View,
        first: int = 0,
        last: int | None = None,
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        """Run layers first..last-1 on the residual stream."""
        ...

    def final(self, hidden: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """The last norm."""
        ...


def extend(
    model: Backbone,
    tokens: Int[Array, "B T"],
    cache: Cache,
    *,
    depth: Int[Array, "B T"] | None = None,
    block: Bool[Array, "B T T"] | None = None,
    valid: Bool[Array, "B T"] | None = None,
    fresh: bool = False,
) -> ModelOutput:
    """Run T tokens after every row's prefix, without advancing `cache.length`.

    Token t is written to slot length + t and has position length + depth[t] (default t).
    It sees the prefix, and the tokens that `block` names (default: 0..t). To commit, set the
    length (`truncate`) or compact a path (`keep`); to discard, do nothing.
    """
    batch, count = tokens.shape
    if count > cache.capacity:
        raise ValueError(
            f"tokens: {count} new tokens exceed the cache's capacity of {cache.capacity}; "
            "allocate a larger cache"
        )
    depth = jnp.broadcast_to(jnp.arange(count), (batch, count)) if depth is None else depth
    valid = jnp.ones((batch, count), bool) if valid is None else valid
    chex.assert_type([tokens, depth, valid], [int, int, bool])
    chex.assert_equal_shape([tokens, depth, valid])
    chex.assert_shape(cache.length, (batch,))
    if block is not None:
        chex.assert_shape(block, (batch, count, count))
        chex.assert_type(block, bool)
    view = View(
        position=cache.length[:, None] + depth,
        start=cache.length,
        prefix=cache.length,
        valid=valid,
        block=block,
        fresh=fresh,
    )
    return model(tokens, cache, view)


class Prefill(NamedTuple):
    """Prompts that were read, all but their last tokens.

    Attributes:
      cache: with length = prompt.length - 1.
      root: i32[B], the last prompt token, the next to be run.
      hidden: f32[B, P - 1, D], final hidden states of the tokens that were run.
    """

    cache: Cache
    root: Int[Array, "B"]
    hidden: Float[Array, "B Pm1 D"]


def prefill(model: Backbone, prompt: Prompt, capacity: int) -> Prefill:
    """Cache all but the last prompt token; that one, the root, is the next to be run."""
    batch, width = prompt.tokens.shape
    cache = model.init_cache(batch, capacity)
    last = prompt.length - 1
    root = jnp.take_along_axis(prompt.tokens, last[:, None], axis=1)[:, 0]
    if width == 1:
        wanted = jax.eval_shape(lambda: extend(model, prompt.tokens, cache).hidden)
        hidden = jnp.zeros((batch, 0, wanted.shape[2]), wanted.dtype)
        return Prefill(truncate(cache, last), root, hidden)
    valid = jnp.arange(width - 1) < last[:, None]
    output = extend(model, prompt.tokens[:, :-1], cache, valid=valid, fresh=True)
    return Prefill(truncate(output.cache, last), root, output.hidden)


def resume(
    model: LayeredModel,
    hidden: Float[Array, "B T D"],
    cache: Cache,
    layers: int,
    *,
    depth: Int[Array, "B T"],
    block: Bool[Array, "B T T"] | None,
    valid: Bool[Array, "B T"],
) -> ModelOutput:
    """Finish an `extend` of which the first `layers` layers have run and left `hidden`."""
    view = View(
        position=cache.length[:, None] + depth,
        start=cache.length,
        prefix=cache.length,
        valid=valid,
        block=block,
    )
    hidden, filled = model.run_layers(hidden, cache, view, layers)
    assert filled is not None
    hidden = model.final(hidden)
    return ModelOutput(logits=model.unembed(hidden), hidden=hidden, cache=filled)
