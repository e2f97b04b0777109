"""Ways to an answer, each asked for what it comes to.

Behind the prompt and each way stands a cue that opens the answer; it is gone on with, greedily
as published, until it closes. `Voting` of the answers is the chain of thought of ICN (Peng et al.
2024, arXiv 2410.02284), whose ways are the items of `algorithms.tokens.icn`: the answer that most
ways come to, the first one of a tie. A way that did not end is asked as well; an answer that did
not close is none, and has no vote where `extract` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import autoregress, struct
from jaxdecode.autoregress import Generator
from jaxdecode.cache import spread
from jaxdecode.decoder import Decoder
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import check_start
from jaxdecode.text import Text
from jaxdecode.types import Array, Float, Int, Key


@struct.dataclass
class Concluded:
    """N answers of each prompt, the trace of `Conclusions`; as `algorithms.selection.best_of_n`
    has its pool, with the ways that led to them.

    Attributes:
      tokens: i32[B, N, L]; length, status, logprob: of each, as in `Result`.
      score: f32[B, N], of the ways; -inf where there is none.
      ways: the trace of the decoder that found them.
    """

    tokens: Int[Array, "B N L"]
    length: Int[Array, "B N"]
    status: Int[Array, "B N"]
    logprob: Float[Array, "B N"]
    score: Float[Array, "B N"]
    ways: Any


@struct.dataclass
class Conclusions:
    """Returns the first way's answer; the trace is `Concluded`.

    Attributes:
      ways: a decoder whose trace lists `tokens` [B, N, L], `length`, `status` and `score` [B, N].
      generator: writes answers; of the same model.
      cue: i32[C], what opens an answer.
    """

    ways: Decoder
    generator: Generator
    cue: Int[Array, "C"]

    @classmethod
    def of(cls, ways: Decoder, generator: Generator, cue: Sequence[int]) -> Conclusions:
        """From a cue as token ids.

        Raises:
          ValueError: for no cue, or an id that is no token.
        """
        vocab = generator.model.vocab_size
        if not cue or not all(0 <= token < vocab for token in cue):
            raise ValueError(f"cue={list(cue)}: one id or more in 0..{vocab - 1} are needed")
        return cls(ways, generator, jnp.asarray(list(cue), jnp.int32))

    def check(self, prompt: Prompt) -> None:
        """Refuse prompts behind which way and answer have no positions."""
        self.ways.check(prompt)
        way = getattr(getattr(self.ways, "generator", None), "max_tokens", 0)
        most = way + self.cue.shape[0] + self.generator.max_tokens
        check_start(replace(self.generator, max_tokens=most), prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        found = self.ways(key, prompt)
        ways = found.trace
        shape, room = ways.length.shape, ways.tokens.shape[2] + self.cue.shape[0]
        text = spread(Text.of(prompt, prompt.tokens.shape[1] + room), shape[1])
        said = ways.length - (ways.status == Status.EOS)  # what closed a way is no part of it
        text = text.append(ways.tokens.reshape(-1, ways.tokens.shape[2]), said.reshape(-1))
        cue = jnp.broadcast_to(self.cue, (len(text.length), self.cue.shape[0]))
        text = text.append(cue, jnp.full_like(text.length, self.cue.shape[0]))
        number = (prompt.id[:, None] * shape[1] + jnp.arange(shape[1])).reshape(-1)
        asked = Prompt(jnp.maximum(text.tokens, 0), text.length, number)
        rows = autoregress.generate(self.generator, key, asked)
        answers = jax.tree.map(
            lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]),
            (rows.tokens, rows.length, rows.status, rows.logprob),
        )
        tokens, length, status, logprob = answers
        length = jnp.where(jnp.isfinite(ways.score), length, 0)
        spent = rows.usage.grouped(shape[0]).priced(self.generator.model.cost)
        total = jax.tree.map(jnp.add, found.usage, spent)
        usage = replace(
            total,
            prompt_tokens=found.usage.prompt_tokens,
            peak_cache_tokens=jnp.maximum(found.usage.peak_cache_tokens, spent.peak_cache_tokens),
            peak_cache_bytes=jnp.maximum(found.usage.peak_cache_bytes, spent.peak_cache_bytes),
        )
        return Result(
            tokens=tokens[:, 0],
            length=length[:, 0],
            logprob=logprob[:, 0],
            status=status[:, 0],
            usage=usage,
            trace=Concluded(tokens, length, status, logprob, ways.score, ways),
        )
