"""Engine: one token per pass, its law tilted by what the candidates are worth.

Of the next token's law p the k most probable tokens z are candidates. Each is given a value
Q(s, z), and the next token is drawn by the generator's sampler from

    p(z | s) exp(Q(s, z) / alpha),  to the power 1 / temperature,  over the k,

the maximum of E[Q] - alpha KL(. || p). A sampler that is greedy takes the best of them. A value
that is not finite makes its candidate invalid: never chosen, and counted; a row none of whose
candidates is left ends invalid. A row's draws depend on seed, example and step alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator, commit, finish
from jaxdecode.cache import put, truncate
from jaxdecode.lm import extend
from jaxdecode.logits.transform import check_number
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Usage
from jaxdecode.rows import Rows, check_start, where_rows
from jaxdecode.sampling import step_keys
from jaxdecode.types import Array, Bool, Float, Int, Key
from jaxdecode.whole import whole


class Candidates(NamedTuple):
    """The k most probable next tokens of every row, the most probable first.

    Attributes:
      token: i32[B, k].
      logit: f32[B, k], edited; -inf for a token that is excluded.
      logprob: f32[B, k], under the raw distribution.
    """

    token: Int[Array, "B k"]
    logit: Float[Array, "B k"]
    logprob: Float[Array, "B k"]


@runtime_checkable
class Valuer(Protocol):
    """Gives every candidate a value. What it returns as usage is of the B rows; its peak counts
    the slots of forks."""

    def init(self, generator: Generator, key: Key[Array, ""], prompt: Prompt) -> tuple[Any, Usage]:
        """State before the first token."""
        ...

    def value(
        self,
        generator: Generator,
        state: Any,
        prompt: Prompt,
        rows: Rows,
        candidates: Candidates,
    ) -> tuple[Float[Array, "B k"], Any, Usage]:
        """Values, the state with all candidates in it, and the cost.

        `rows.cache` holds everything that was emitted, the root included.
        """
        ...

    def choose(self, state: Any, index: Int[Array, "B"]) -> Any:
        """The state after candidate `index` of every row was appended."""
        ...


@struct.dataclass
class Guidance:
    """What the tilt did, the trace.

    Attributes:
      value: f32[B, L], that of each token emitted; 0 past the length.
      law: f32[B], sum of the log-probabilities of the tokens under the law they were drawn from.
      tilt: f32[B], sum over the steps of KL(law || reference's edited law).
    """

    value: Float[Array, "B L"]
    law: Float[Array, "B"]
    tilt: Float[Array, "B"]


def tilted(
    logit: Float[Array, "B k"],
    value: Float[Array, "B k"],
    alpha: Float[Array, ""] | float,
    temperature: Float[Array, ""] | float = 1.0,
) -> Float[Array, "B k"]:
    """Logits of the tilted law; -inf where the value is not finite."""
    score = (logit + jnp.where(jnp.isfinite(value), value, 0.0) / alpha) / temperature
    return jnp.where(jnp.isfinite(value), score, -jnp.inf)


@struct.dataclass
class Guided:
    """Decodes by a tilted law; the trace is the `Guidance`.

    Attributes:
      generator: the reference, and the sampler that draws from the tilted law.
      valuer: what candidates are worth.
      candidates: static, k; fewer where the vocabulary has fewer.
      alpha: strength of the pull towards the reference, in units of value.
      temperature: of the tilted law.
    """

    generator: Generator
    valuer: Valuer
    candidates: int = struct.field(pytree_node=False, default=10)
    alpha: Float[Array, ""] | float = 1.0
    temperature: Float[Array, ""] | float = 1.0

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates={self.candidates}: at least one is needed")
        check_number("alpha", self.alpha, 0.0, above=True, fix="; a sampler may be greedy")
        check_number("temperature", self.temperature, 0.0, above=True)

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        generator, batch = self.generator, prompt.batch
        capacity = prompt.tokens.shape[1] + generator.max_tokens
        rows = generator.start(key, prompt, 1, capacity)
        state, usage = self.valuer.init(generator, key, prompt)
        rows = replace(rows, usage=charge(rows.usage, usage, jnp.ones((batch,), bool)))
        nothing = jnp.zeros((batch,), jnp.float32)
        guidance = Guidance(jnp.zeros((batch, generator.max_tokens)), nothing, nothing)
        rows, _, guidance = jax.lax.while_loop(
            lambda carry: jnp.any(carry[0].running),
            lambda carry: self._step(prompt, *carry),
            (rows, state, guidance),
        )
        return finish(generator, rows, guidance)

    def _step(
        self, prompt: Prompt, rows: Rows, state: Any, guidance: Guidance
    ) -> tuple[Rows, Any, Guidance]:
        generator, active = self.generator, rows.running
        output = extend(generator.model, rows.root[:, None], rows.cache, valid=active[:, None])
        raw = whole(output.logits)[:, 0]
        edited = generator.transform.apply(rows.transform, raw)
        logit, token = jax.lax.top_k(edited, min(self.candidates, edited.shape[1]))
        logprob = jnp.take_along_axis(jax.nn.log_softmax(raw), token, axis=1)
        ahead = replace(rows, cache=truncate(output.cache, output.cache.length + active))
        value, state, usage = self.valuer.value(
            generator, state, prompt, ahead, Candidates(token, logit, logprob)
        )
        # An excluded candidate stays so; NaN logits keep the row unusable.
        faults = jnp.isfinite(logit) & ~jnp.isfinite(value)
        score = tilted(logit, value, self.alpha, self.temperature)
        index = generator.sampler(step_keys(rows.key, rows.length), score)
        place = jnp.maximum(index, 0)[:, None]
        emits = active & (index >= 0)

        def taken(array: Array) -> Array:
            return jnp.take_along_axis(array, place, axis=1)[:, 0]

        law = jax.nn.log_softmax(jnp.log(generator.sampler.distribution(score)), axis=1)
        reference = jnp.take_along_axis(jax.nn.log_softmax(edited), token, axis=1)
        gap = jnp.where(jnp.isfinite(law), jnp.exp(law) * (law - reference), 0.0)
        at = jnp.where(emits, rows.length, generator.max_tokens)
        guidance = Guidance(
            value=put(guidance.value, at[:, None], taken(value)[:, None]),
            law=guidance.law + jnp.where(emits, taken(law), 0.0),
            tilt=guidance.tilt + jnp.where(emits, jnp.sum(gap, axis=1), 0.0),
        )
        usage = usage.add(invalid=jnp.sum(faults, axis=1, dtype=jnp.int32))
        rows = replace(rows, usage=charge(rows.usage, usage, active))
        drawn = jnp.where(index >= 0, taken(token), -1)
        rows = commit(generator, rows, active, output, drawn)
        return rows, self.valuer.choose(state, place[:, 0]), guidance


def charge(usage: Usage, more: Usage, active: Bool[Array, "B"]) -> Usage:
    """Both costs; peaks of memory do not add up. A row that is not active pays nothing."""
    more = where_rows(active, more, jax.tree.map(jnp.zeros_like, more))
    peak = jnp.maximum(usage.peak_cache_tokens, more.peak_cache_tokens)
    return replace(jax.tree.map(jnp.add, usage, more), peak_cache_tokens=peak)
