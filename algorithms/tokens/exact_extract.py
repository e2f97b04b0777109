"""The most probable part of a passage, exactly, in a pass for each of its n beginnings (Castel et
al. 2022, arXiv 2108.05857).

With c the passage, x the prompt that it is in and E the end token, a part from i to j has

    S(i, j) = sum_{t=i..j} log p(c_t | x, c_i .. c_{t-1}) + log p(E | x, c_i .. c_j).

One teacher-forced pass over c_i .. c_n says every term of every part that begins at i: its sums
are cumulative. Naive scoring takes a pass for each of the n (n + 1) / 2 parts. Each beginning
needs a context of its own: the passage is not one text of which the parts are read off.

The beginnings run as lanes over the prompt's cache, `chunk` at a time; of their logits only two
numbers a place are kept. Of equal scores the first beginning wins, of its parts the shortest; one
text at two places scores the same but for rounding, and is always taken where it comes first. What
is forced before an answer (a sentinel, "Answer:") is the end of the prompt: it adds a constant.
The sum is not normalised by length, as published; `normalised` divides it by the number of its
terms, for analysis. The result is the part and E; `logprob` is S.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.cache import Cache, truncate
from jaxdecode.lanes import Lanes
from jaxdecode.lm import LanguageModel, extend, prefill
from jaxdecode.paper import Paper
from jaxdecode.passage import Passage, PassageRule
from jaxdecode.prompt import Prompt, check_prompt
from jaxdecode.result import Result, Status, Usage
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="exact_extract",
    title="How Optimal is Greedy Decoding for Extractive Question Answering?",
    authors=("Or Castel", "Ori Ram", "Avia Efrat", "Omer Levy"),
    year=2022,
    arxiv="2108.05857",
    venue="AKBC",
    claim="Without examples the most probable part of the passage answers far better than greedy "
    "decoding; with a few hundred, or after training on recurring parts, greedy decoding meets it.",
    losslessness="not-applicable",
)


class Best(NamedTuple):
    """The best part so far: its score, log-probability, first token in the passage, and length
    (0: none was found); the trace of a decoder."""

    score: Float[Array, "B"]
    logprob: Float[Array, "B"]
    first: Int[Array, "B"]
    count: Int[Array, "B"]


class _Search(NamedTuple):
    """Between chunks: the first beginning not tried, the cache, and what was found and spent."""

    begin: Int[Array, ""]
    cache: Cache
    best: Best
    usage: Usage


@struct.dataclass
class ExactExtract:
    """Answers by the most probable part of the passage; the trace is the `Best`.

    Attributes:
      model: says how probable answers are.
      passage: where the passage of each prompt is.
      end: i32[], E, the token that the model was trained to end an answer with.
      longest: static, the most tokens of a part. Exact where no passage is longer; else it is
        the best of the parts that are no longer.
      chunk: static, beginnings that share a pass.
      normalised: whether S is divided by its number of terms.
    """

    model: LanguageModel
    passage: PassageRule
    end: Int[Array, ""] | int
    longest: int = struct.field(pytree_node=False)
    chunk: int = struct.field(pytree_node=False, default=8)
    normalised: bool | Bool[Array, ""] = False

    def __post_init__(self) -> None:
        for name in ("longest", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: at least 1 is needed")
        if isinstance(self.end, int) and not 0 <= self.end < self.model.vocab_size:
            raise ValueError(
                f"end={self.end} is outside the vocabulary 0..{self.model.vocab_size - 1}; name "
                "the token that ends an answer"
            )

    def check(self, prompt: Prompt) -> None:
        """Refuse prompts without a passage, and those that leave no room for its parts."""
        check_prompt(prompt, self.model.vocab_size)
        if isinstance(prompt.tokens, Tracer):
            return
        count, most = jax.device_get(self.passage(prompt).count), self.model.max_positions
        for row, tokens in enumerate(count):
            if tokens == 0:
                raise ValueError(
                    f"prompt {row} (id {int(prompt.id[row])}): its passage is empty, or the marks "
                    "around it are not in the prompt; put the prompt together from tokens"
                )
            need = int(prompt.length[row]) + min(int(tokens), self.longest)
            if most is not None and need > most:
                raise ValueError(
                    f"prompt {row} (id {int(prompt.id[row])}): with its longest answer it has "
                    f"{need} tokens, of {most} that the model can read; cut the passage into "
                    "windows, or lower longest"
                )

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        """The key is not used: nothing is drawn."""
        batch, width = prompt.tokens.shape
        passage, room = self.passage(prompt), min(self.longest, width)
        lanes = min(self.chunk, width)
        read = prefill(self.model, prompt, width + lanes * room)
        root = extend(self.model, read.root[:, None], read.cache)
        opening = jax.nn.log_softmax(root.logits[:, 0])
        nothing, zero = jnp.full((batch,), -jnp.inf), jnp.zeros((batch,), jnp.int32)
        length = prompt.length
        usage = Usage.zeros(batch).add(
            prompt_tokens=length,
            target_passes=1 + (length > 1),
            target_tokens=length,
            attended=length * (length + 1) / 2.0,
        )
        cache = truncate(root.cache, length)
        found = jax.lax.while_loop(
            lambda search: search.begin < jnp.max(passage.count),
            lambda search: self._chunk(prompt, passage, opening, search, lanes, room),
            _Search(zero[0], cache, Best(nothing, nothing, zero, zero), usage.peak(length)),
        )
        best = found.best._replace(first=earliest(prompt, passage, found.best))
        return self._result(prompt, passage, best, found.usage)

    def _chunk(
        self,
        prompt: Prompt,
        passage: Passage,
        opening: Float[Array, "B V"],
        search: _Search,
        lanes: int,
        room: int,
    ) -> _Search:
        """Try the parts that begin at the next `lanes` places."""
        begin = search.begin + jnp.arange(lanes)
        index = begin[:, None] + jnp.arange(room)
        valid = index < passage.count[:, None, None]
        tokens = quoted(prompt, passage.start[:, None, None] + index)
        ahead = Lanes.over(search.cache, lanes, lanes * room)
        logits, ahead = ahead.run(self.model, tokens, valid)
        total = jax.nn.logsumexp(logits, axis=3)
        ends = logits[..., self.end] - total
        after = jnp.take_along_axis(logits[:, :, :-1], tokens[:, :, 1:, None], axis=3)[..., 0]
        one = jnp.take_along_axis(opening, tokens[:, :, 0], axis=1)[..., None]
        terms = jnp.concatenate([one, after - total[..., :-1]], axis=2)
        logprob = jnp.cumsum(terms, axis=2) + ends
        size = jnp.arange(1, room + 1)
        score = jnp.where(jnp.asarray(self.normalised), logprob / (size + 1), logprob)
        score = jnp.where(valid & ~jnp.isnan(score), score, -jnp.inf)
        flat = score.reshape(score.shape[0], -1)
        place = jnp.argmax(flat, axis=1)[:, None]
        most = jnp.take_along_axis(flat, place, axis=1)[:, 0]
        whole = jnp.take_along_axis(logprob.reshape(flat.shape), place, axis=1)[:, 0]
        lane, last = place[:, 0] // room, place[:, 0] % room
        here = Best(most, whole, search.begin + lane, last + 1)
        better = most > search.best.score
        usage = search.usage.add(
            target_passes=ahead.passes, target_tokens=ahead.tokens, attended=ahead.attended
        ).peak(prompt.length + ahead.tokens)
        best = Best(*(jnp.where(better, a, b) for a, b in zip(here, search.best, strict=True)))
        return _Search(search.begin + lanes, ahead.cache, best, usage)

    def _result(self, prompt: Prompt, passage: Passage, best: Best, usage: Usage) -> Result:
        """The part and the end token as tokens."""
        place, first = jnp.arange(self.longest + 1), passage.start + best.first
        tokens = quoted(prompt, first[:, None] + place)
        count = best.count[:, None]
        tokens = jnp.where(place < count, tokens, jnp.where(place == count, self.end, 0))
        there = best.count > 0
        length = jnp.where(there, best.count + 1, 0)
        return Result(
            tokens=jnp.where(there[:, None], tokens, 0).astype(jnp.int32),
            length=length,
            logprob=jnp.where(there, best.logprob, 0.0),
            status=jnp.where(there, Status.EOS, Status.INVALID).astype(jnp.int8),
            usage=usage.add(
                emitted=length, bonus=length, invalid=(~there).astype(jnp.int32)
            ).priced(self.model.cost),
            trace=best,
        )


def quoted(prompt: Prompt, index: Int[Array, "B ..."]) -> Int[Array, "B ..."]:
    """Tokens of the prompts by place; the last one for a place beyond."""
    flat = jnp.clip(index, 0, prompt.tokens.shape[1] - 1).reshape(index.shape[0], -1)
    return jnp.take_along_axis(prompt.tokens, flat, axis=1).reshape(index.shape)


def earliest(prompt: Prompt, passage: Passage, best: Best) -> Int[Array, "B"]:
    """Where in the passage the text of a part comes first."""
    place = jnp.arange(prompt.tokens.shape[1])
    start = passage.start + best.first

    def narrow(offset: Int[Array, ""], same: Bool[Array, "B P"]) -> Bool[Array, "B P"]:
        token = quoted(prompt, (start + offset)[:, None])
        there = quoted(prompt, passage.start[:, None] + place + offset)
        return same & ((there == token) | (offset >= best.count)[:, None])

    fits = place + best.count[:, None] <= passage.count[:, None]
    same = jax.lax.fori_loop(0, jnp.max(best.count), narrow, fits)
    return jnp.argmax(same, axis=1).astype(jnp.int32)
