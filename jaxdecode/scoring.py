"""What a (partial) response is worth: the Scorer contract and the scorers of general use.

A scorer keeps its own state for R rows, which is gathered with the rows it belongs to, so
that scoring a longer prefix of the same row costs its new tokens only. A state is a pytree
whose leaves lead with R, or are caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
from flax import struct

from jaxdecode.autoregress import Rows
from jaxdecode.cache import fork, resize, truncate
from jaxdecode.lm import Backbone, extend
from jaxdecode.prompt import Prompt
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Spent:
    """Passes and tokens of a scorer's own model, i32[R] each."""

    passes: Int[Array, "R"]
    tokens: Int[Array, "R"]

    @classmethod
    def nothing(cls, rows: int) -> Spent:
        return cls(jnp.zeros((rows,), jnp.int32), jnp.zeros((rows,), jnp.int32))


class Scorer(Protocol):
    """Scores R = B * K rows, K for every prompt, prompt by prompt."""

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        """State of B * samples rows that have emitted nothing."""
        ...

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        """Scores of the rows as they stand; higher is better.

        `window` bounds the tokens a row has emitted since the last call.
        """
        ...


class RewardModel(Backbone, Protocol):
    """A backbone with a head: `logits` are its C outputs at every token."""

    def reward(self, outputs: Float[Array, "... C"]) -> Float[Array, "..."]:
        """The reward of what has been read so far, from the outputs at its last token."""
        ...


@struct.dataclass
class RewardScorer:
    """A reward model over prompt and response tokens, with an incremental cache.

    The reward is read at the last token of the response. A model trained to be read at a
    closing token gets it by `suffix`: it is run after the response on slots that are never
    committed, so the text can go on as if it had not been there.

    Attributes:
      model: shares the generator's vocabulary.
      suffix: i32[X], closing tokens; X may be 0.
    """

    model: RewardModel
    suffix: Int[Array, "X"] = struct.field(default_factory=lambda: jnp.zeros((0,), jnp.int32))

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        batch, width = prompt.tokens.shape
        valid = jnp.arange(width) < prompt.length[:, None]
        output = extend(
            self.model,
            prompt.tokens,
            self.model.init_cache(batch, width),
            valid=valid,
            fresh=True,
        )
        cache = truncate(output.cache, prompt.length)
        outputs = jnp.take_along_axis(output.logits, prompt.length[:, None, None] - 1, axis=1)
        parent = jnp.repeat(jnp.arange(batch), samples)
        first = jnp.tile(jnp.arange(samples), batch) == 0
        spent = Spent(first.astype(jnp.int32), jnp.where(first, prompt.length[parent], 0))
        seen = jnp.zeros((batch * samples,), jnp.int32)
        return (fork(cache, parent), seen, self.model.reward(outputs[:, 0])[parent]), spent

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        cache, seen, score = state
        closing = self.suffix.shape[0]
        # Slots for everything up to the newest token of any row, and for the suffix.
        cache = resize(cache, cache.capacity + window + closing)
        index = seen[:, None] + jnp.arange(window)
        fresh = rows.length - seen
        valid = index < rows.length[:, None]
        tokens = jnp.take_along_axis(
            rows.tokens, jnp.minimum(index, rows.tokens.shape[1] - 1), axis=1
        )
        output = extend(self.model, tokens, cache, valid=valid)
        at = jnp.clip(fresh - 1, 0)[:, None, None]
        outputs = jnp.take_along_axis(output.logits, at, axis=1)[:, 0]
        cache = truncate(output.cache, cache.length + fresh)
        if closing:
            closed = jnp.broadcast_to(self.suffix, (fresh.shape[0], closing))
            outputs = extend(self.model, closed, cache).logits[:, -1]
        score = jnp.where(fresh > 0, self.model.reward(outputs), score)
        read = (fresh > 0).astype(jnp.int32)
        kept = resize(cache, cache.capacity - closing)
        return score, (kept, rows.length, score), Spent(read, fresh + read * closing)


@struct.dataclass
class FunctionScorer:
    """A function of tokens: exact rewards, rules, programs behind a host callback.

    Attributes:
      function: (prompt tokens i32[R, P], prompt length i32[R], response tokens i32[R, L],
        response length i32[R]) -> f32[R]. Tokens past the lengths are to be ignored.
    """

    function: Callable[..., Float[Array, "R"]] = struct.field(pytree_node=False)

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return (), Spent.nothing(prompt.batch * samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        count = rows.length.shape[0]
        parent = jnp.repeat(jnp.arange(prompt.batch), count // prompt.batch)
        score = self.function(
            prompt.tokens[parent], prompt.length[parent], rows.tokens, rows.length
        )
        return score, state, Spent.nothing(count)


@struct.dataclass
class LikelihoodScorer:
    """Minus the generator's perplexity of the response: a self-reward that costs no pass.

    -exp(-mean log p(token)), raw distribution, over emitted tokens.
    """

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return (), Spent.nothing(prompt.batch * samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        mean = rows.logprob / jnp.maximum(rows.length, 1)
        return -jnp.exp(-mean), state, Spent.nothing(rows.length.shape[0])
