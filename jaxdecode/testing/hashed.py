"""A denoiser of random conditionals, another table for every state of every canvas.

    state = sum over the visible (position, token) pairs of a hash of each, modulo 2^32
    logit_v = sharpness * (noise(state, place, v) + smooth * noise(prompt, place, v))

A token that is seen or missed by mistake, a wrong position or a stale slot changes all logits.
Prompts are cases: thousands of rows are thousands of unrelated denoisers, which neighbouring
states share the more of the larger `smooth` is. Hashes and noise are of integers, so that the
NumPy double below has the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import Cache, allocate, place, read, write
from jaxdecode.denoiser import Denoiser
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Hashed:
    """See the module; the mask is the last token.

    Attributes:
      seed: u32[].
      sharpness: scale of the logits.
      smooth: share of what does not depend on the state.
      vocab_size: static, with the mask.
      prompt: static; what stands below this position is the case.
    """

    seed: Any
    sharpness: Any
    smooth: Any
    vocab_size: int = struct.field(pytree_node=False)
    prompt: int = struct.field(pytree_node=False)

    @classmethod
    def of(
        cls,
        vocab: int,
        seed: int = 0,
        sharpness: float = 1.0,
        smooth: float = 0.0,
        prompt: int = 1,
        **options: Any,
    ) -> Denoiser:
        """A denoiser over `vocab` tokens and the mask."""
        model = cls(jnp.uint32(seed), sharpness, smooth, vocab + 1, prompt)
        return Denoiser(model, vocab, **options)

    @property
    def max_positions(self) -> None:
        return None

    @property
    def cost(self) -> ModelCost:
        return ModelCost(parameters=self.vocab_size, attention=2, cache_bytes=8)

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return allocate(1, batch, 1, 1, capacity)

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        return hidden

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        slot = view.slot(cache.capacity)
        cache = place(cache, view.position, slot)
        held = tokens[:, :, None, None].astype(jnp.float32)
        cache = write(cache, 0, held, held, slot)
        token = read(cache, 0)[0][:, 0, 0].astype(jnp.int32)
        said = says(cache.position, token)[:, None, :]
        seen = view.mask(cache.capacity)
        zero = jnp.uint32(0)
        state = jnp.sum(jnp.where(seen, said, zero), axis=2, dtype=jnp.uint32)
        case = seen & (cache.position < self.prompt)[:, None, :]
        base = jnp.sum(jnp.where(case, said, zero), axis=2, dtype=jnp.uint32)
        own = mix(view.position.astype(jnp.uint32) + self.seed)[:, :, None]
        own = mix(own + jnp.arange(self.vocab_size, dtype=jnp.uint32))
        hidden = noise(state[..., None], own) + self.smooth * noise(base[..., None], ~own)
        hidden = (self.sharpness * hidden).astype(jnp.float32)
        return ModelOutput(logits=hidden, hidden=hidden, cache=cache)


def mix(x: Any) -> Any:
    """A bijection of 32 bits without pattern (the finaliser of MurmurHash3)."""
    x = x ^ (x >> 16)
    x = x * np.uint32(0x85EBCA6B)
    x = x ^ (x >> 13)
    x = x * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def says(position: Any, token: Any) -> Any:
    """What a token at a position adds to the state."""
    return mix(mix(position.astype(np.uint32) + np.uint32(0x9E3779B9)) + token.astype(np.uint32))


def noise(state: Any, own: Any) -> Any:
    """A logistic variable for every state and place."""
    bits = mix(state ^ own) >> 8  # 24 bits are exact in float32
    uniform = (bits + 0.5) / 2.0**24
    log = np.log if isinstance(uniform, np.ndarray | np.floating) else jnp.log
    return log(uniform) - log(1.0 - uniform)


def hashed_logits(model: Hashed, pairs: Iterable[tuple[int, int]], place: int) -> np.ndarray:
    """Logits f64[V] of a place that sees these (position, token) pairs."""
    with np.errstate(over="ignore"):
        state = base = np.uint32(0)
        for position, token in pairs:
            said = says(np.array([position]), np.array([token]))[0]
            state = state + said
            base = base + said if position < model.prompt else base
        own = mix(np.array([place], np.uint32) + np.uint32(model.seed))
        own = mix(own + np.arange(model.vocab_size, dtype=np.uint32))
        varying, shared = (noise(np.full(len(own), s), o) for s, o in ((state, own), (base, ~own)))
    return float(model.sharpness) * (varying + float(model.smooth) * shared)
