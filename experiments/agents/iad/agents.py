"""Language models as agents, agents that are told the wrong things, and verifiers that err."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.agents.agent import Agent, Reply, Review, Verdict, Verifier
from experiments.inputs.sources import Codec
from jaxdecode.autoregress import Generator
from jaxdecode.prompt import Prompt, bucket
from jaxdecode.types import Array, Int, Key


@dataclass(frozen=True)
class ModelAgent:
    """A language model that is asked in writing.

    Attributes:
      generator: how it answers.
      codec: its vocabulary.
      write: the text of a review.
      read: the answer in what it wrote; as it stands where there is none.
      seed: of every draw, with the ids and numbers of samples.
      batch: reviews a device batch; the last one is filled up.
      width: prompt tokens, one width for all calls, so that one program serves them; None
        for the bucket of each batch.
      longest: prompt tokens that may be asked for. Where a review is longer, what the verifier
        said goes first, then the worst answer; the best is never cut.
    """

    generator: Generator
    codec: Codec
    write: Callable[[Review], str]
    read: Callable[[str], str | None] = str
    seed: int = 0
    batch: int = 64
    width: int | None = None
    longest: int = 2048

    def __call__(
        self, reviews: Sequence[Review], ids: Sequence[int], samples: int, first: int
    ) -> list[list[Reply]]:
        asked = [self.tokens(review) for review in reviews]
        replies: list[list[Reply]] = []
        for at in range(0, len(asked), self.batch):
            some, names = asked[at : at + self.batch], list(ids[at : at + self.batch])
            spare = self.batch - len(some)
            width = self.width or bucket(max(map(len, some)))
            prompt = Prompt.of([*some, *some[-1:] * spare], [*names, *names[-1:] * spare], width)
            key = jax.random.key(self.seed)
            drawn = _draw(self.generator, key, prompt, samples, jnp.int32(first))
            tokens, length = (np.asarray(array) for array in jax.device_get(drawn))
            for row, question in enumerate(some):
                group = range(row * samples, (row + 1) * samples)
                replies.append(
                    [self._reply(tokens[i, : length[i]].tolist(), question) for i in group]
                )
        return replies

    def tokens(self, review: Review) -> list[int]:
        """A review as the model expects it, shortened where it must be.

        Raises:
          ValueError: prompt and best answer alone are longer than `longest`.
        """
        silent = replace(review, best=review.best and replace(review.best, critique=""))
        for shorter in (review, silent, replace(silent, worst=None)):
            tokens = self._encode(self.write(shorter))
            if len(tokens) <= self.longest:
                return tokens
        raise ValueError(
            f"longest={self.longest}: prompt {review.prompt[:40]!r} with its best answer takes "
            f"{len(tokens)} tokens; raise it"
        )

    def _encode(self, text: str) -> list[int]:
        if self.codec.strict is None and self.codec.text.template is not None:
            return self.codec.prompt([{"role": "user", "content": text}])
        return self.codec.prompt(text)

    def _reply(self, tokens: list[int], asked: list[int]) -> Reply:
        text = self.codec.decode(tokens, asked)
        return Reply(self.read(text) or text, read=len(asked), written=len(tokens))


@partial(jax.jit, static_argnames="samples")
def _draw(
    generator: Generator, key: Key[Array, ""], prompt: Prompt, samples: int, first: Int[Array, ""]
) -> tuple[Int[Array, "R L"], Int[Array, "R"]]:
    """Samples first, first + 1, ... of every prompt."""
    size = prompt.tokens.shape[1] + generator.max_tokens
    rows = generator.start(key, prompt, samples, size, first)
    rows = generator.advance(rows, jnp.full_like(rows.length, size))
    return rows.tokens, rows.length


@dataclass(frozen=True)
class Remembered:
    """An agent that is not asked twice for the same draws, which several arms begin with.

    What it says to a review depends on the review, its id and the numbers of the samples alone.
    """

    agent: Agent
    known: dict[tuple[Review, int, int, int], Sequence[Reply]] = field(default_factory=dict)

    def __call__(
        self, reviews: Sequence[Review], ids: Sequence[int], samples: int, first: int
    ) -> list[Sequence[Reply]]:
        keys = [(review, id, samples, first) for review, id in zip(reviews, ids, strict=True)]
        new = {key: place for place, key in enumerate(keys) if key not in self.known}
        if new:
            asked, names = zip(*((reviews[at], ids[at]) for at in new.values()), strict=True)
            self.known.update(zip(new, self.agent(asked, names, samples, first), strict=True))
        return [self.known[key] for key in keys]


@dataclass(frozen=True)
class Confused:
    """An agent that is shown the feedback of the next question in its batch.

    Feedback of the same form that says nothing: what it gains is not the feedback's doing.
    """

    agent: Agent

    def __call__(
        self, reviews: Sequence[Review], ids: Sequence[int], samples: int, first: int
    ) -> Sequence[Sequence[Reply]]:
        others = [*reviews[1:], *reviews[:1]]
        mixed = [
            replace(mine, best=other.best, worst=other.worst)
            for mine, other in zip(reviews, others, strict=True)
        ]
        return self.agent(mixed, ids, samples, first)


@dataclass(frozen=True)
class Noisy:
    """A verifier whose scores are off by N(0, sigma^2), always by the same for one answer.

    As a learned judge errs: asking again does not help, and no draw depends on the order of
    calls.
    """

    verify: Verifier
    sigma: float
    seed: int = 0

    def __call__(self, prompt: str, text: str) -> Verdict:
        verdict = self.verify(prompt, text)
        name = blake2b(f"{self.seed}\0{prompt}\0{text}".encode(), digest_size=8).digest()
        error = np.random.default_rng(int.from_bytes(name, "big")).standard_normal()
        return replace(verdict, score=verdict.score + self.sigma * float(error))


@dataclass(frozen=True)
class Sparse:
    """A verifier that tells perfect answers from all others, and no more."""

    verify: Verifier
    perfect: float = 1.0

    def __call__(self, prompt: str, text: str) -> Verdict:
        verdict = self.verify(prompt, text)
        return replace(verdict, score=float(verdict.score >= self.perfect))
