"""A model whose next token depends on the newest alone, and rounds of speculation one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, allocate, place, write
from jaxdecode.lm import ModelCost, ModelOutput, View
from jaxdecode.logits import Identity
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.sampling import Greedy, Sampler
from jaxdecode.speculate import Speculator, play
from jaxdecode.stop import Stop
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class MarkovLM:
    """Attributes: table f32[V, V], the logits after each token."""

    table: Float[Array, "V V"]

    @classmethod
    def cycle(cls, vocab: int, known: int = 8) -> MarkovLM:
        """i is followed by i + 1, less probably by i + 2, and so on, modulo the vocabulary."""
        ahead = (np.arange(vocab) - np.arange(vocab)[:, None] - 1) % vocab
        return cls(jnp.asarray(np.where(ahead < known, -1.0 * ahead, -100.0 - ahead), jnp.float32))

    @property
    def vocab_size(self) -> int:
        return self.table.shape[0]

    @property
    def max_positions(self) -> None:
        return None

    @property
    def cost(self) -> ModelCost:
        return ModelCost(parameters=self.table.size, attention=0, cache_bytes=8)

    def init_cache(self, batch: int, capacity: int) -> Cache:
        return allocate(1, batch, 1, 1, capacity)

    def embed(self, tokens: Int[Array, "B T"], position: Int[Array, "B T"] | None = None) -> Array:
        return self.table[tokens]

    def unembed(self, hidden: Float[Array, "... V"]) -> Float[Array, "... V"]:
        return hidden

    def __call__(self, tokens: Int[Array, "B T"], cache: Cache, view: View) -> ModelOutput:
        slot = view.slot(cache.capacity)
        zero = jnp.zeros((*tokens.shape, 1, 1))
        cache = write(place(cache, view.position, slot), 0, zero, zero, slot)
        logits = self.table[tokens]
        return ModelOutput(logits=logits, hidden=logits, cache=cache)


def generator(model, max_tokens: int, sampler: Sampler | None = None) -> Generator:
    """No edits, no end."""
    return Generator(model, Identity(), sampler or Greedy(), Stop.of(()), max_tokens)


@jax.jit
def one_round(speculator: Speculator, rows: Rows) -> Rows:
    until = jnp.full_like(rows.length, rows.cache.capacity - speculator.drafter.nodes)
    return play(speculator, rows, rows.running & (rows.total < until), until)


def rounds(speculator: Speculator, prompt: Prompt, seed: int = 0) -> list[Rows]:
    """The rows at the start and after each round, until all have ended."""
    capacity = prompt.tokens.shape[1] + speculator.max_tokens
    start = jax.jit(lambda key, prompt: speculator.start(key, prompt, 1, capacity))
    history = [start(jax.random.key(seed), prompt)]
    while bool(history[-1].running.any()):
        history.append(one_round(speculator, history[-1]))
    return history


def emitted(history: list[Rows], row: int = 0) -> list[int]:
    """Tokens that each round emitted."""
    return np.diff([int(rows.length[row]) for rows in history]).tolist()
