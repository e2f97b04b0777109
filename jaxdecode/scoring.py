"""What a (partial) response is worth: the Scorer contract and the scorers of general use.

A scorer keeps its own state for R rows, which is gathered with the rows it belongs to, so
that scoring a longer prefix of the same row costs its new tokens only. A state is a pytree
whose leaves lead with R, or are caches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.cache import Cache, resize, spread, truncate
from jaxdecode.lm import Backbone, LanguageModel, ModelCost, extend
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Spent:
    """What rows, [R] or [B, K], made a scorer's own model do."""

    passes: Int[Array, "*rows"]
    tokens: Int[Array, "*rows"]
    flops: Float[Array, "*rows"]

    @classmethod
    def nothing(cls, rows: int) -> Spent:
        """What a scorer without a model spends on R rows."""
        count = jnp.zeros((rows,), jnp.int32)
        return cls(count, count, jnp.zeros((rows,), jnp.float32))

    @classmethod
    def reading(
        cls, cost: ModelCost, seen: Int[Array, "*rows"], tokens: Int[Array, "*rows"]
    ) -> Spent:
        """One pass over `tokens` tokens after `seen` others; none where there are no tokens."""
        attended = tokens * seen + tokens * (tokens + 1) / 2.0
        flops = 2.0 * cost.parameters * tokens + cost.attention * attended
        return cls((tokens > 0).astype(jnp.int32), tokens, flops.astype(jnp.float32))


@runtime_checkable
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


@runtime_checkable
class RewardModel(Backbone, Protocol):
    """A backbone with a head: `logits` are its C outputs at every token."""

    @property
    def cost(self) -> ModelCost: ...

    def reward(self, outputs: Float[Array, "... C"]) -> Float[Array, "..."]:
        """The reward of what has been read so far, from the outputs at its last token."""
        ...


@struct.dataclass
class Reading:
    """How far a reward model has read R rows.

    Attributes:
      cache: of prompt and response, up to `seen`.
      seen: i32[R], response tokens read.
      reward: f32[R], as of the newest of them.
    """

    cache: Cache
    seen: Int[Array, "R"]
    reward: Float[Array, "R"]


@struct.dataclass
class RewardScorer:
    """A reward model over prompt and response tokens, with an incremental cache.

    The reward is read at the last token of the response. A model trained to be read at a
    closing token gets it by `suffix`: it is run after the response on slots that are never
    committed, so the text can go on as if it had not been there.

    Attributes:
      model: shares the generator's vocabulary.
      suffix: i32[X], closing tokens; X may be 0.
      unread: i32[U], end tokens that the model is not shown; U may be 0. Models whose padding
        is their end token were trained to be read at the token before it.
    """

    model: RewardModel
    suffix: Int[Array, "X"] = struct.field(default_factory=lambda: jnp.zeros((0,), jnp.int32))
    unread: Int[Array, "U"] = struct.field(default_factory=lambda: jnp.zeros((0,), jnp.int32))

    def init(self, prompt: Prompt, samples: int) -> tuple[Reading, Spent]:
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
        seen = jnp.zeros((batch * samples,), jnp.int32)
        reward = self.model.reward(outputs[:, 0])
        cache, reward, length = spread((cache, reward, prompt.length), samples)
        # The prompt is read once, and charged to the first of its rows.
        first = jnp.tile(jnp.arange(samples), batch) == 0
        read = jnp.where(first, length, 0)
        return Reading(cache, seen, reward), Spent.reading(self.model.cost, seen, read)

    def score(
        self, state: Reading, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Reading, Spent]:
        closing = self.suffix.shape[0]
        # Slots for everything up to the newest token of any row, and for the suffix.
        cache = resize(state.cache, state.cache.capacity + window + closing)
        index = state.seen[:, None] + jnp.arange(window)
        hidden = jnp.any(rows.root[:, None] == self.unread, axis=1) & (rows.length > 0)
        length = rows.length - hidden
        fresh = length - state.seen
        valid = index < length[:, None]
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
        score = jnp.where(fresh > 0, self.model.reward(outputs), state.reward)
        kept = resize(cache, cache.capacity - closing)
        read = jnp.where(fresh > 0, fresh + closing, 0)
        spent = Spent.reading(self.model.cost, state.cache.length, read)
        return score, Reading(kept, length, score), spent


def check_function(function: Any) -> None:
    """Refuse what is no function of prompts and responses as tokens.

    Raises:
      ValueError: naming the function, what it takes and what to do.
    """
    if not callable(function):
        raise ValueError(
            f"function={function!r} cannot be called; pass a function of prompt tokens, prompt "
            "length, response tokens and response length"
        )
    try:
        signature = inspect.signature(function)
        signature.bind(*range(4))
    except TypeError:
        count = len(inspect.signature(function).parameters)
        raise ValueError(
            f"function={getattr(function, '__name__', function)!s} takes {count} arguments, not "
            "prompt tokens, prompt length, response tokens and response length; for a function of "
            "text use jaxdecode.host.HostJudge.of(function, tokenizer)"
        ) from None
    except ValueError:  # built in, or compiled: it cannot be looked into
        return


def one_each(score: Any, count: int) -> Float[Array, "{count}"]:
    """What a function gave, one number for every row.

    Raises:
      ValueError: it has another shape.
    """
    found = jnp.asarray(score)
    if found.shape != (count,):
        raise ValueError(
            f"function gave {found.dtype}{list(found.shape)} for {count} rows; give one number for "
            f"each, [{count}]"
        )
    return found.astype(jnp.promote_types(found.dtype, jnp.float32))


@struct.dataclass
class FunctionScorer:
    """A function of tokens: exact rewards, rules, programs behind a host callback.

    Attributes:
      function: (prompt tokens i32[R, P], prompt length i32[R], response tokens i32[R, L],
        response length i32[R]) -> f32[R]. Tokens past the lengths are to be ignored.
    """

    function: Callable[..., Float[Array, "R"]] = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        check_function(self.function)

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return (), Spent.nothing(prompt.batch * samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        count = rows.length.shape[0]
        prompts = spread(prompt, count // prompt.batch)
        score = self.function(prompts.tokens, prompts.length, rows.tokens, rows.length)
        return one_each(score, count), state, Spent.nothing(count)


@struct.dataclass
class LikelihoodScorer:
    """Minus the generator's perplexity: a self-reward that costs no pass over responses.

    -exp(-mean log p(token)), raw distribution, over the emitted tokens and, with a
    `prompt_model`, over those of the prompt but its first, which nothing predicts. The prompt
    draws the scores of short responses together: a text of one lucky token is not the best.

    Attributes:
      prompt_model: the generator's model, run once over every prompt; None for the perplexity
        of the response alone.
    """

    prompt_model: LanguageModel | None = None

    def init(self, prompt: Prompt, samples: int) -> tuple[Float[Array, "R"], Spent]:
        batch, width = prompt.tokens.shape
        rows = batch * samples
        if self.prompt_model is None or width == 1:
            return jnp.zeros((rows,), jnp.float32), Spent.nothing(rows)
        model = self.prompt_model
        valid = jnp.arange(width - 1) < prompt.length[:, None] - 1
        cache = model.init_cache(batch, width - 1)
        logits = extend(model, prompt.tokens[:, :-1], cache, valid=valid, fresh=True).logits
        logprob = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(logprob, prompt.tokens[:, 1:, None], axis=2)[..., 0]
        total = jnp.sum(jnp.where(valid, chosen, 0.0), axis=1)
        total, length = spread((total, prompt.length), samples)
        first = jnp.tile(jnp.arange(samples), batch) == 0
        read = jnp.where(first, length - 1, 0)
        return total, Spent.reading(model.cost, jnp.zeros_like(read), read)

    def score(
        self, state: Float[Array, "R"], prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Float[Array, "R"], Spent]:
        given = 0 if self.prompt_model is None else rows.prompt_length - 1
        mean = (state + rows.logprob) / jnp.maximum(given + rows.length, 1)
        return -jnp.exp(-mean), state, Spent.nothing(rows.length.shape[0])
