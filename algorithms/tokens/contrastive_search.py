"""Contrastive search: a probable token whose representation is unlike all before it.

    x_t = argmax over the k likeliest v of   (1 - alpha) p(v | x) - alpha max_j cos(h_v, h_j)

h_v is the final hidden state of v read after the text, h_j those of all tokens before, the prompt's
included: k candidates are run at every step, in one pass that shares the row's cache. Keys, values,
hidden state and logits of the winner are kept, so that the next step needs no further pass. It
needs a model whose hidden states differ in direction: where all cosines are near 1 the second term
chooses nothing. Source: Su et al. 2022, arXiv 2202.06417.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxdecode import struct
from jaxdecode.autoregress import Generator, commit, fork
from jaxdecode.cache import keep, put, resize, spread, truncate
from jaxdecode.lm import LanguageModel, ModelOutput, extend, prefill
from jaxdecode.logits.transform import check_number
from jaxdecode.prompt import Prompt
from jaxdecode.rows import Rows, run_until
from jaxdecode.sampling import Greedy
from jaxdecode.types import Array, Bool, Float, Int, Key


@struct.dataclass
class Ahead:
    """What is known of R rows, whose roots have been run: their slots lie behind the prefix.

    Attributes:
      logits: f32[R, V], after the root.
      hidden: f32[R, C, D], by position, of length 1; garbage past the text.
    """

    logits: Float[Array, "R V"]
    hidden: Float[Array, "R C D"]


def unit(hidden: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Vectors of length 1, float32."""
    hidden = hidden.astype(jnp.float32)
    length = jnp.linalg.norm(hidden, axis=-1, keepdims=True)
    return hidden / jnp.maximum(length, 1e-30)


@struct.dataclass
class ContrastiveSearch:
    """What emits a row's tokens; see `Generator`. Greedy decoding where alpha is 0 or k is 1.

    Attributes:
      generator: model, edits of the logits before p, stop rule; its sampler is `Greedy`.
      alpha: 0.6 for GPT-2 and open ends, as published.
      k: static, candidates.
    """

    generator: Generator
    alpha: Float[Array, ""] | float = 0.6
    k: int = struct.field(pytree_node=False, default=5)

    depth = 0
    UNSPECULATED = (
        "contrastive search chooses by hidden states that only reading each candidate gives, so "
        "that no pass over a draft can verify it; decode with it alone"
    )

    def __post_init__(self) -> None:
        if not isinstance(self.generator, Generator):  # a tree transformation's stand-in
            return
        check_number("alpha", self.alpha, 0.0, 1.0)
        if not 1 <= self.k <= self.model.vocab_size:
            raise ValueError(
                f"k={self.k} must lie in 1..{self.model.vocab_size}, the vocabulary's size"
            )
        if not isinstance(self.generator.sampler, Greedy):
            raise ValueError(
                f"generator.sampler={type(self.generator.sampler).__name__}: contrastive search "
                "draws nothing; pass Greedy()"
            )

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def max_tokens(self) -> int:
        return self.generator.max_tokens

    @property
    def cache_growth(self) -> int:
        return self.generator.cache_growth

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Generator.start`; the root is run too."""
        read = prefill(self.model, prompt, prompt.tokens.shape[1])
        output = extend(self.model, read.root[:, None], read.cache)
        read = read._replace(cache=output.cache)
        rows = fork(self.generator, key, prompt, read, samples, capacity + self.k, first)
        more = ((0, 0), (0, capacity - read.hidden.shape[1]), (0, 0))
        hidden = put(
            jnp.pad(unit(read.hidden), more), prompt.length[:, None] - 1, unit(output.hidden)
        )
        charged = rows.usage.prompt_tokens  # 0 for all but the first of a prompt's rows
        once = (charged > 0).astype(jnp.int32)
        usage = rows.usage.add(
            target_passes=once, target_tokens=once, attended=charged.astype(jnp.float32)
        )
        ahead = spread(Ahead(output.logits[:, 0], hidden), samples)
        return replace(rows, usage=usage, speculation=ahead)

    def room(self, rows: Rows, capacity: int) -> Rows:
        """See `Generator.room`."""
        ahead: Ahead = rows.speculation
        kept = ahead.hidden[:, :capacity]
        hidden = jnp.pad(kept, ((0, 0), (0, capacity - kept.shape[1]), (0, 0)))
        return replace(
            rows,
            cache=resize(rows.cache, capacity + self.k),
            speculation=replace(ahead, hidden=hidden),
        )

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """See `Generator.advance`."""
        until = jnp.minimum(until, rows.cache.capacity - self.k)

        return run_until(rows, until, self.step)

    def step(self, rows: Rows, active: Bool[Array, "R"]) -> Rows:
        """Emit one token on every active row; the others do not change."""
        ahead: Ahead = rows.speculation
        count, total = self.k, rows.total
        edited = self.generator.transform.apply(rows.transform, ahead.logits)
        p, token = jax.lax.top_k(jax.nn.softmax(edited, axis=1), count)
        live = active[:, None] & (p > 0)
        output = extend(
            self.model,
            token,
            truncate(rows.cache, rows.cache.length + 1),
            depth=jnp.zeros_like(token),
            block=jnp.broadcast_to(jnp.eye(count, dtype=bool), (len(token), count, count)),
            valid=live,
        )
        own = unit(output.hidden)
        cosine = jnp.einsum("rkd,rcd->rkc", own, ahead.hidden)
        before = jnp.arange(ahead.hidden.shape[1]) < total[:, None]
        nearest = jnp.max(jnp.where(before[:, None], cosine, -jnp.inf), axis=2)
        score = jnp.where(live, (1 - self.alpha) * p - self.alpha * nearest, -jnp.inf)
        score = jnp.where(active[:, None] & jnp.isnan(p), jnp.nan, score)
        place = jnp.argmax(score, axis=1)[:, None]
        usable = jnp.isfinite(jnp.max(score, axis=1))
        emits = active & usable

        def won(array: Array) -> Array:
            return jnp.take_along_axis(array, place[..., None], axis=1)[:, 0]

        drawn = jnp.where(usable, jnp.take_along_axis(token, place, axis=1)[:, 0], -1)
        kept = keep(output.cache, place, emits.astype(jnp.int32))
        said = ModelOutput(
            ahead.logits[:, None], won(output.hidden)[:, None], truncate(kept, rows.cache.length)
        )
        after = commit(self.generator, rows, active, said, drawn)
        at = jnp.where(emits, total, ahead.hidden.shape[1])
        ahead = Ahead(
            logits=jnp.where(emits[:, None], won(output.logits), ahead.logits),
            hidden=put(ahead.hidden, at[:, None], won(own)[:, None]),
        )
        ran = jnp.sum(live, axis=1)
        usage = after.usage.add(
            target_tokens=ran - active,
            attended=(ran * (total + 1) - jnp.where(active, total, 0)).astype(jnp.float32),
        ).peak(jnp.where(active, total + ran, 0))
        return replace(after, usage=usage, speculation=ahead)
