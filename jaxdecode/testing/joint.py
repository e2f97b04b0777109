"""A denoiser that knows a small joint law exactly, and its NumPy double.

    p(x_i = v | what is decided)  of a law over all texts of N places and K tokens

is read from the table of the law: tokens that are decided select its entries, and the rest is
summed. Decoding one place at a time in any order then samples the joint law itself, and
whatever decodes several at once is as far from it as theory says. `tilted` adds to every
conditional a table of its own: conditionals that no law has, as those of a trained model are.

It is a `LanguageModel`: what a token says of its place sits in the cache and is read by those
who see it, so that a place that is seen or missed by mistake, a stale slot or a wrong position
change the conditionals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.cache import Cache, allocate, place, read, write
from jaxdecode.denoiser import Denoiser
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.types import Array, Float, Int, Key


@struct.dataclass
class Joint:
    """A model over K tokens and the mask, which is token K; places are positions less `first`.

    Attributes:
      law: f32[K, ..., K], probabilities of the N places; they sum to 1.
      tilt: f32[N, (K + 1) ** N, K], added to the logits of a place in a state of the canvas.
      first: static; the position of place 0, which is the length of every prompt.
    """

    law: Float[Array, "..."]
    tilt: Float[Array, "N S K"]
    first: int = struct.field(pytree_node=False, default=1)

    @classmethod
    def of(cls, law: Array | np.ndarray, first: int = 1) -> Joint:
        """The exact conditionals of a law."""
        law = jnp.asarray(law, jnp.float32)
        states = (law.shape[0] + 1) ** law.ndim
        return cls(law, jnp.zeros((law.ndim, states, law.shape[0])), first)

    @classmethod
    def random(cls, key: Key[Array, ""] | int, places: int, tokens: int, first: int = 1) -> Joint:
        """A law drawn evenly from all of them."""
        key = jax.random.key(key) if isinstance(key, int) else key
        weight = jax.random.exponential(key, (tokens,) * places)
        return cls.of(weight / jnp.sum(weight), first)

    def tilted(self, key: Key[Array, ""] | int, amount: float) -> Joint:
        """Conditionals of no law: every state of the canvas moves them its own way."""
        key = jax.random.key(key) if isinstance(key, int) else key
        return replace(self, tilt=amount * jax.random.normal(key, self.tilt.shape))

    def denoiser(self, **options: Any) -> Denoiser:
        """The model as a denoiser, whose mask is token K."""
        return Denoiser(self, self.tokens, **options)

    @property
    def places(self) -> int:
        """N."""
        return self.law.ndim

    @property
    def tokens(self) -> int:
        """K."""
        return self.law.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.tokens + 1

    @property
    def max_positions(self) -> None:
        return None

    @property
    def cost(self) -> ModelCost:
        return ModelCost(parameters=self.law.size, attention=2 * self.places, cache_bytes=8)

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return allocate(1, batch, 1, 1, capacity)

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """The hidden states are logits: of tokens, and 0 for the mask, which nothing reads."""
        return jnp.concatenate([hidden, jnp.zeros((*hidden.shape[:-1], 1))], axis=-1)

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        slot = view.slot(cache.capacity)
        cache = place(cache, view.position, slot)
        held = tokens[:, :, None, None].astype(jnp.float32)
        cache = write(cache, 0, held, held, slot)
        token, at = read(cache, 0)[0][:, 0, 0], cache.position - self.first  # [B, S]
        seen = view.mask(cache.capacity)[:, :, None, :]  # [B, T, 1, S]
        here = seen & (at[:, None, None, :] == jnp.arange(self.places)[:, None])
        state = jnp.max(jnp.where(here, token[:, None, None, :], -1.0), axis=3)
        # A place that is not seen says as little as one that holds the mask.
        state = jnp.where(state < 0, self.tokens, state).astype(jnp.int32)
        own = jnp.clip(view.position - self.first, 0, self.places - 1)
        hidden = jax.vmap(jax.vmap(self.conditional))(state, own)
        return ModelOutput(logits=self.unembed(hidden), hidden=hidden, cache=cache)

    def conditional(self, state: Int[Array, "N"], own: Int[Array, ""]) -> Float[Array, "K"]:
        """Logits of place `own` given the others; what it holds itself is not looked at."""
        count = self.tokens
        state = state.at[own].set(count)
        weight = self.law
        for axis in range(self.places):
            shape = [1] * self.places
            shape[axis] = count
            fits = (state[axis] == count) | (jnp.arange(count) == state[axis])
            weight = weight * fits.reshape(shape)
        marginal = jnp.stack(
            [
                jnp.sum(weight, axis=tuple(i for i in range(self.places) if i != axis))
                for axis in range(self.places)
            ]
        )
        code = jnp.sum(state * (count + 1) ** jnp.arange(self.places))
        return jnp.log(marginal[own]) + self.tilt[own, code]


def conditional(model: Joint, state: Sequence[int], own: int) -> np.ndarray:
    """Probabilities f64[K] of place `own` of a canvas, by going through all texts."""
    law, tilt = np.asarray(model.law, np.float64), np.asarray(model.tilt, np.float64)
    weight = np.zeros(model.tokens)
    for text in product(range(model.tokens), repeat=model.places):
        if all(
            i == own or s in (t, model.tokens)
            for i, (s, t) in enumerate(zip(state, text, strict=True))
        ):
            weight[text[own]] += law[text]
    code = sum(
        (model.tokens if i == own else s) * (model.tokens + 1) ** i for i, s in enumerate(state)
    )
    weight = weight * np.exp(tilt[own, code])
    return weight / weight.sum()


def chain_rule(model: Joint, order: Sequence[int]) -> dict[tuple[int, ...], float]:
    """The law of texts whose places are drawn one after the other in this order."""
    law = {(model.tokens,) * model.places: 1.0}
    for own in order:
        longer: dict[tuple[int, ...], float] = {}
        for state, probability in law.items():
            for token, p in enumerate(conditional(model, state, own)):
                text = (*state[:own], token, *state[own + 1 :])
                longer[text] = longer.get(text, 0.0) + probability * float(p)
        law = longer
    return law
