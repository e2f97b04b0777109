"""A policy over 64 responses of two tokens, as a table that can be trained."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, allocate, place, write
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Categorical
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float

WORDS = 8
START = WORDS  # the prompt's only token, which no model emits
RESPONSES = np.array(list(itertools.product(range(WORDS), repeat=2)))


class Bigrams(nnx.Module):
    """Logits of the next word after each; hidden states name the newest token."""

    vocab_size = WORDS + 1
    max_positions = None
    cost = ModelCost(parameters=0, attention=0, cache_bytes=8)

    def __init__(self, table: Array | np.ndarray):
        self.table = nnx.Param(jnp.asarray(table, jnp.float32))

    def unembed(self, hidden):
        logits = hidden @ self.table[...]
        return jnp.pad(logits, [(0, 0)] * (logits.ndim - 1) + [(0, 1)], constant_values=-1e9)

    def forward(self, tokens, valid=None):
        hidden = jax.nn.one_hot(tokens, WORDS + 1)
        return self.unembed(hidden), hidden

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return allocate(1, batch, 1, 1, capacity)

    def __call__(self, tokens, cache: Cache, view: View) -> ModelOutput:
        slot = view.slot(cache.capacity)
        zero = jnp.zeros((*tokens.shape, 1, 1))
        cache = write(place(cache, view.position, slot), 0, zero, zero, slot)
        logits, hidden = self.forward(tokens)
        return ModelOutput(logits=logits, hidden=hidden, cache=cache)

    def law(self) -> np.ndarray:
        """The probability of every response, f64[64]."""
        logits = np.asarray(self.table[...], np.float64)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return (p[START][:, None] * p[:WORDS]).reshape(-1)


def random(seed: int = 0) -> Bigrams:
    return Bigrams(np.random.default_rng(seed).normal(size=(WORDS + 1, WORDS)))


def generator(model: Bigrams) -> Generator:
    return Generator(model, Identity(), Categorical(), Stop.of(), 2)


def prompts(count: int) -> Prompt:
    return Prompt.of([[START]] * count, width=1)


@struct.dataclass
class Known:
    """The reward of every response, off a table."""

    worth: Float[Array, "64"]

    def __call__(self, prompt: Prompt, rows: Rows) -> Array:
        return self.worth[rows.tokens[:, 0] * WORDS + rows.tokens[:, 1]]
