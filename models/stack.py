"""The layers of a `Transformer`, run over a residual stream: as one text, or as two.

The weights are stacked and scanned, or written out; the cache is in the loop's carry.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdecode.cache import Cache
from jaxdecode.lm import View
from jaxdecode.target import ROWS
from models.config import TransformerConfig
from models.gathering import forgetting, gathered
from models.layer import Call, Hidden, Weights, attention_half, mlp_half


@runtime_checkable
class Layered(Protocol):
    """What is run: the weights of layers, stacked in one `nnx.Dict` or each in its own."""

    config: TransformerConfig
    layers: Any

    def layer(self, index: int) -> Weights:
        """The weights of one layer."""
        ...


def run(
    model: Layered, hidden: Hidden, call: Call, cache: Cache | None, first: int, last: int
) -> tuple[Hidden, Cache | None]:
    """Layers first..last-1."""
    c = model.config

    def layer(carry, xs):
        hidden, cache = carry
        weights, index, local = xs
        if apart:
            weights = gathered(c, weights, "layers/")
        if not mixed:
            local = bool(c.sliding) and c.sliding[0]
        hidden, cache = attention_half(c, weights, index, hidden, cache, call, local)
        return (mlp_half(c, weights, hidden, call), cache), None

    mixed = len(set(c.sliding)) > 1
    # A cache comes with a loop over tokens, where weights are better gathered before.
    apart = cache is None and call.sight.target.size(ROWS) > 1
    step = jax.checkpoint(layer) if c.remat else forgetting(layer) if apart else layer
    carry = (hidden, cache)
    layers = model.layers
    if c.unroll or not isinstance(layers, nnx.Dict):
        for i in range(first, last):
            carry, _ = step(carry, (model.layer(i), i, mixed and c.sliding[i]))
        return carry
    stacked = {name: p[...] for name, p in layers.items()}
    part = (first, last) != (0, c.layers)
    if part and cache is None:
        stacked = {name: p[first:last] for name, p in stacked.items()}
    elif part:
        # A slice would be copied in every step of a decoding loop, so each layer indexes the
        # whole stack; a gradient, which training takes without a cache, prefers the slice.
        whole, inner = stacked, step

        def step(carry, xs):
            return inner(carry, ({name: p[xs[1]] for name, p in whole.items()}, *xs[1:]))

        stacked = None
    flags = jnp.asarray(c.sliding[first:last] or (False,) * (last - first), bool)
    carry, _ = jax.lax.scan(step, carry, (stacked, jnp.arange(first, last), flags))
    return carry


def run_both(
    model: Layered, hidden: Hidden, cache: Cache | None, view: View
) -> tuple[Hidden, Cache | None]:
    """All layers of a model whose rotation changes at a length, where rows may cross it.

    A text that crosses is another text to every layer. Both are kept from the first token on,
    each in its half of the cache, and a token reads the one that its own position is in: drafts
    that lie beyond do not touch what lies before them. The first is left out of calls all of
    whose tokens are beyond.
    """
    c, one = model.config, jnp.ones_like(view.position[:, :1])

    def text(cache: Cache | None, late: bool) -> tuple[Hidden, Cache | None]:
        call, cache = Call.of(c, view, cache, hidden, one * (c.crossing + late), late * c.layers)
        return run(model, hidden, call, cache, 0, c.layers)

    beyond = view.position >= c.crossing
    early, cache = jax.lax.cond(
        jnp.any(view.valid & ~beyond),
        lambda cache: text(cache, False),
        lambda cache: (hidden, cache),
        cache,
    )
    late, cache = text(cache, True)
    return jnp.where(beyond[..., None], late, early), cache
