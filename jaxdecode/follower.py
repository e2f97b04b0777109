"""A second model that reads along: its cache follows the text that another model emits.

The tokens that it has not read are fed in chunks until it stands at the root. After a round
of drafting these are the root and at most the last accepted draft, one chunk; after rounds
in which nobody drafted there may be any number.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, keep, truncate
from jaxdecode.draft import Draft, Spent
from jaxdecode.drafter import Outcome
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.prompt import Prompt
from jaxdecode.text import Text
from jaxdecode.types import Array, Bool, Float, Int

CHUNK = 2


@struct.dataclass
class Follower:
    """What a model that reads along remembers.

    Attributes:
      cache: of the tokens it has read.
      text: prompt and output, the root included.
    """

    cache: Cache
    text: Text

    @classmethod
    def of(cls, model: LanguageModel, prompt: Prompt, room: int, capacity: int) -> Follower:
        """Read the prompts. `room` is that of the texts, `capacity` that of the cache, drafts
        included."""
        read = prefill(model, prompt, max(capacity, prompt.tokens.shape[1]) + CHUNK)
        return cls(read.cache, Text.of(prompt, room))

    def committed(self, outcome: Outcome) -> Follower:
        """The text with what a round emitted."""
        return replace(self, text=self.text.append(outcome.tokens, outcome.count))


@struct.dataclass
class Standing:
    """The model at the root.

    Attributes:
      cache: the text read, root included.
      logits: f32[B, V], raw, of the token after the root.
      hidden: f32[B, D], final hidden state of the root.
      spent: what reading cost.
    """

    cache: Cache
    logits: Float[Array, "B V"]
    hidden: Float[Array, "B D"]
    spent: Spent


def catch_up(
    model: LanguageModel, follower: Follower, active: Bool[Array, "B"], stride: int = CHUNK
) -> Standing:
    """Read on until the root is read, on the active rows; `stride` tokens at once while a row
    has more than a chunk left, as after a rest."""
    text, batch = follower.text, active.shape[0]
    stride = min(stride, follower.cache.capacity)  # no text is longer

    def behind(cache: Cache) -> Int[Array, "B"]:
        return jnp.where(active, text.length - cache.length, 0)

    def read(standing: Standing, chunk: int) -> Standing:
        cache = standing.cache
        count = jnp.minimum(behind(cache), chunk)
        valid = jnp.arange(chunk) < count[:, None]
        tokens = jnp.maximum(text.window(cache.length, chunk), 0)
        output = extend(model, tokens, cache, valid=valid)
        last = jnp.clip(count - 1, 0)[:, None, None]
        reads = (count > 0)[:, None]

        def newest(of: Array, old: Array) -> Array:
            return jnp.where(reads, jnp.take_along_axis(of, last, axis=1)[:, 0], old)

        tokens_read = jnp.sum(valid, axis=1)
        attended = jnp.sum(jnp.where(valid, cache.length[:, None] + jnp.arange(chunk) + 1, 0), 1)
        return Standing(
            cache=truncate(output.cache, cache.length + count),
            logits=newest(output.logits, standing.logits),
            hidden=newest(output.hidden, standing.hidden),
            spent=charge(standing.spent, model, tokens_read, attended),
        )

    shapes = jax.eval_shape(
        lambda: extend(model, jnp.zeros((batch, CHUNK), jnp.int32), follower.cache)
    )
    zero = Standing(
        cache=follower.cache,
        logits=jnp.zeros((batch, shapes.logits.shape[2]), shapes.logits.dtype),
        hidden=jnp.zeros((batch, shapes.hidden.shape[2]), shapes.hidden.dtype),
        spent=Spent.nothing(batch),
    )

    def until(left: int, chunk: int, standing: Standing) -> Standing:
        """Read chunks until no row has more than `left` tokens to go."""
        return jax.lax.while_loop(
            lambda s: jnp.any(behind(s.cache) > left), lambda s: read(s, chunk), standing
        )

    standing = zero if stride <= CHUNK else until(CHUNK, stride, zero)
    return until(0, CHUNK, standing)


def charge(
    spent: Spent, model: LanguageModel, tokens: Int[Array, "B"], attended: Int[Array, "B"]
) -> Spent:
    """Add one pass of `model` over `tokens` new tokens that saw `attended` keys in all."""
    cost = model.cost
    return Spent(
        passes=spent.passes + (tokens > 0),
        tokens=spent.tokens + tokens,
        flops=spent.flops + 2.0 * cost.parameters * tokens + 1.0 * cost.attention * attended,
    )


def rewind(
    cache: Cache, length: Int[Array, "B"], draft: Draft, outcome: Outcome, ran: Bool[Array, "B N"]
) -> Cache:
    """A follower's cache after a round: the accepted nodes that it ran stay, in order.

    Node n is in slot length + n, `length` being the cache's when it stood at the root, and
    `ran` names the nodes that were run. What stays is a prefix of the accepted path.
    """
    path, nodes = outcome.verdict.path, max(draft.nodes - 1, 0)
    if not draft.nodes:
        return cache
    held = jnp.take_along_axis(ran, jnp.clip(path, 0, nodes), axis=1)
    order = jnp.arange(path.shape[1])
    # The last token emitted is the new root, which is to be run again.
    inside = order < jnp.minimum(outcome.verdict.count, outcome.count - 1)[:, None]
    count = jnp.sum(jnp.cumprod(held & inside, axis=1), axis=1, dtype=jnp.int32)
    cache = truncate(cache, length)
    if draft.shape.chain:
        return truncate(cache, length + count)
    return keep(cache, path, count, draft.nodes)
