"""The value of a candidate read off the unfinished text: one pass of a scorer a token.

`PrefixScores` asks any scorer for its score of [s, z]; its state is forked with the candidates,
and the winner's is kept. `NextValues` is a model with an output for every token of the
vocabulary, V([s, z]) of all z from one pass over s.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, gather, put, resize, truncate
from jaxdecode.guide import Candidates
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.prompt import Prompt
from jaxdecode.responses import as_rows
from jaxdecode.result import Usage
from jaxdecode.rollouts import scored
from jaxdecode.rows import Rows
from jaxdecode.scoring import Scorer, Spent
from jaxdecode.types import Array, Float, Int, Key


def fitted(state: Any, capacity: int) -> Any:
    """A scorer's state whose caches have this capacity, so that a loop can carry it."""

    def fit(leaf: Any) -> Any:
        return resize(leaf, capacity) if isinstance(leaf, Cache) else leaf

    return jax.tree.map(fit, state, is_leaf=lambda leaf: isinstance(leaf, Cache))


@struct.dataclass
class PrefixScores:
    """Scores of the text with the candidate appended."""

    scorer: Scorer

    def init(self, generator: Generator, key: Key[Array, ""], prompt: Prompt) -> tuple[Any, Usage]:
        state, spent = self.scorer.init(prompt, 1)
        capacity = prompt.tokens.shape[1] + generator.max_tokens
        return fitted(state, capacity), scored(Usage.zeros(prompt.batch), spent)

    def value(
        self,
        generator: Generator,
        state: Any,
        prompt: Prompt,
        rows: Rows,
        candidates: Candidates,
    ) -> tuple[Float[Array, "B k"], Any, Usage]:
        batch, count = candidates.token.shape
        first = jnp.zeros((batch, count), jnp.int32)
        tokens, length, logprob = gather((rows.tokens, rows.length, rows.logprob), first)
        tokens = put(tokens, length[:, None], candidates.token.reshape(-1, 1))
        logprob += candidates.logprob.reshape(-1)
        forks = as_rows(prompt, tokens, length + 1, logprob)
        score, state, spent = self.scorer.score(gather(state, first), prompt, forks, 1)
        capacity = prompt.tokens.shape[1] + generator.max_tokens
        usage = scored(Usage.zeros(batch), spent)
        return score.reshape(batch, count), fitted(state, capacity), usage

    def choose(self, state: Any, index: Int[Array, "B"]) -> Any:
        return gather(state, index[:, None])


@struct.dataclass
class NextValues:
    """Values of every next token by a model of its own.

    Attributes:
      model: its outputs after s are V([s, z]) of every token z.
    """

    model: LanguageModel

    def init(
        self, generator: Generator, key: Key[Array, ""], prompt: Prompt
    ) -> tuple[Cache, Usage]:
        if self.model.vocab_size != generator.model.vocab_size:
            raise ValueError(
                f"model.vocab_size={self.model.vocab_size} values, for a generator of "
                f"{generator.model.vocab_size} tokens: both need the same vocabulary"
            )
        cache = prefill(self.model, prompt, prompt.tokens.shape[1] + generator.max_tokens).cache
        spent = Spent.reading(self.model.cost, jnp.zeros_like(cache.length), cache.length)
        return cache, scored(Usage.zeros(prompt.batch), spent)

    def value(
        self,
        generator: Generator,
        state: Cache,
        prompt: Prompt,
        rows: Rows,
        candidates: Candidates,
    ) -> tuple[Float[Array, "B k"], Cache, Usage]:
        output = extend(self.model, rows.root[:, None], state)
        value = jnp.take_along_axis(output.logits[:, 0], candidates.token, axis=1)
        spent = Spent.reading(self.model.cost, state.length, jnp.ones_like(state.length))
        usage = scored(Usage.zeros(prompt.batch), spent)
        return value, truncate(output.cache, state.length + 1), usage

    def choose(self, state: Cache, index: Int[Array, "B"]) -> Cache:
        return state


@struct.dataclass
class PrefixValue:
    """`NextValues` of finished or unfinished rows, as a scorer: V of the newest token.

    Reads the whole response at every call.
    """

    model: LanguageModel

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        read = prefill(self.model, prompt, prompt.tokens.shape[1])
        rows = jnp.zeros((prompt.batch, samples), jnp.int32)
        first = jnp.tile(jnp.arange(samples), prompt.batch) == 0
        cache, root = gather((read.cache, read.root), rows)
        seen = jnp.where(first, cache.length, 0)
        return (cache, root), Spent.reading(self.model.cost, jnp.zeros_like(seen), seen)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        cache, root = state
        room = rows.tokens.shape[1]
        last = jnp.maximum(rows.length - 1, 0)[:, None]
        # Token t's value is output of the one before it; the last is not read.
        tokens = jnp.concatenate([root[:, None], rows.tokens[:, : room - 1]], axis=1)
        valid = jnp.arange(room) <= last
        output = extend(self.model, tokens, resize(cache, cache.capacity + room), valid=valid)
        outputs = jnp.take_along_axis(output.logits, last[..., None], axis=1)[:, 0]
        newest = jnp.take_along_axis(rows.tokens, last, axis=1)
        value = jnp.take_along_axis(outputs, newest, axis=1)[:, 0]
        return value, state, Spent.reading(self.model.cost, cache.length, rows.length)
