"""ICN: what was found already goes into the context, so that the next look is for something else
(Peng et al. 2024, arXiv 2410.02284).

The prompt asks for a list and opens its first item. Tokens that have keys (rows of the output
table) near those of the likeliest ones are ranked high whether or not they begin a right item, and
one law ranks no better further down. So the list is explored in R runs of m items:

    h = the query behind the prompt and the list so far
    the m likeliest tokens of softmax(K h) that began no item yet begin one each
    each is continued to its end, and they join the list, in the order of their rank

An item is continued behind the *prompt*, whatever is listed (`decode_from="instruction"`, as the
published program does): the list chooses how items begin, and nothing else. With R = 1 this is
walking down the ranks of one law, the published baseline. Items that say the same are all kept;
an item that did not end in `generator.max_tokens` is listed as `nothing`.

The list grows at its end alone, so that one cache reads it once. First tokens are told apart by
their ids, where the published program compares their texts. A chain of thought is the same, its
items being ways to an answer; `navigation.conclusions` asks each for its
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from algorithms.tokens.navigation.listing import Items, Listing, Marks
from jaxdecode import struct
from jaxdecode.appending import append
from jaxdecode.autoregress import Generator, fork
from jaxdecode.cache import spread
from jaxdecode.lm import LanguageModel, Prefill
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status, Usage
from jaxdecode.rows import Rows, check_start
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="icn",
    title="Correlation and Navigation in the Vocabulary Key Representation Space of Language "
    "Models",
    authors=("Letian Peng", "Chenyang An", "Jingbo Shang"),
    year=2024,
    arxiv="2410.02284",
    venue="ICLR 2025",
    claim="Listing what was found in the context and asking for something else finds more right "
    "answers, more different texts and better votes than walking down the ranks of one next-token "
    "law.",
    losslessness="not-applicable",
)
Source = Literal["instruction", "list"]


@struct.dataclass
class Explored:
    """N = R * m items of each prompt in the order in which they were found, the trace of `ICN`.

    Attributes:
      tokens: i32[B, N, L], what ended an item included; length, status, logprob: of each, as in
        `Result`. An item that there was no token for has no length.
      score: f32[B, N], falling with the order; -inf for no item.
      meter: state of the generator's meter, every leaf [B, N, ...].
      query: f32[B, R, D], the hidden state that each run looked from.
    """

    tokens: Int[Array, "B N L"]
    length: Int[Array, "B N"]
    status: Int[Array, "B N"]
    logprob: Float[Array, "B N"]
    score: Float[Array, "B N"]
    meter: Any
    query: Float[Array, "B R D"]


@struct.dataclass
class ICN:
    """Returns the first item, which is what the generator says; the trace is `Explored`.

    Attributes:
      generator: continues items; greedy as published. Its end rules are what closes an item, and
        the last token of what is closed is no part of it.
      marks: how the list is written; of N items.
      runs: static, R.
      width: static, m.
      among: static; items begin with one of so many likeliest tokens, None for all. The published
        chain of thought has 100.
      decode_from: static, what stands before an item that is continued: the "instruction", or the
        "list" too.
      room: static; tokens of a list at most, None for as many as there could be. A list
        without room is not gone on with.
    """

    generator: Generator
    marks: Marks
    runs: int = struct.field(pytree_node=False)
    width: int = struct.field(pytree_node=False)
    among: int | None = struct.field(pytree_node=False, default=None)
    decode_from: Source = struct.field(pytree_node=False, default="instruction")
    room: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        if self.runs < 1 or self.width < 1:
            raise ValueError(f"runs={self.runs}, width={self.width}: one run of one item at least")
        if self.decode_from not in ("instruction", "list"):
            raise ValueError(f"decode_from={self.decode_from!r}: use instruction or list")
        if self.among is not None and self.among < self.width:
            raise ValueError(f"among={self.among}: a run takes width={self.width} of these tokens")
        if self.room is not None and self.room < 1:
            raise ValueError(f"room={self.room}: a list has a token at least, or None for any")
        if not isinstance(self.generator, Generator):  # a tree transformation's stand-in
            return
        most = self.model.vocab_size
        for name, value in (("width", self.width), ("among", self.among)):
            if value is not None and value > most:
                raise ValueError(f"{name}={value} exceeds the vocabulary of {most} tokens")

    @classmethod
    def of(
        cls,
        generator: Generator,
        between: Sequence[Sequence[int]],
        runs: int,
        width: int,
        nothing: Sequence[int] = (),
        **options: Any,
    ) -> ICN:
        """From token lists; `between` has one for each item but the last.

        Raises:
          ValueError: for too few of them, or an id that is no token.
        """
        if len(between) != runs * width - 1:
            raise ValueError(
                f"between: {len(between)} given; {runs} runs of {width} items have "
                f"{runs * width - 1} places between them"
            )
        marks = Marks.of(between, nothing, generator.model.vocab_size)
        return cls(generator, marks, runs, width, **options)

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def list_room(self) -> int:
        """Tokens that the list may have when it is read."""
        most = (self.runs - 1) * self.width * self.marks.longest(self.generator.max_tokens)
        return most if self.room is None else min(self.room, most)

    def check(self, prompt: Prompt) -> None:
        """Refuse prompts behind which there is no position for the list."""
        check_start(self.generator, prompt)
        behind = self.list_room + (self.decode_from == "list") * self.generator.max_tokens
        longest = replace(self.generator, max_tokens=max(behind, self.generator.max_tokens))
        try:
            check_start(longest, prompt)
        except ValueError as error:
            raise ValueError(
                f"room={self.room}: {self.runs} runs of {self.width} items may list "
                f"{self.list_room} tokens ({error}); give less room"
            ) from error

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        start = Listing.begun(self.model, prompt, self.list_room)

        def run(listing: Listing, number: Int[Array, ""]) -> tuple[Listing, tuple[Items, Array]]:
            token = self._chosen(prompt, listing)
            source = start if self.decode_from == "instruction" else listing
            rows = self._continued(key, prompt, source, token, listing.open, number)
            items = Items.of(rows)
            after = listing.joined(self.marks, token, items, number * self.width)
            # What does not fit after the last run is missed by nobody.
            after = after._replace(open=jnp.where(number + 1 < self.runs, after.open, listing.open))
            goes = after.open & (number + 1 < self.runs)
            return after.read(self.model, goes), (items, listing.hidden)

        listing, (items, query) = jax.lax.scan(run, start, jnp.arange(self.runs))
        return self._result(prompt, listing, items, query)

    def _chosen(self, prompt: Prompt, listing: Listing) -> Int[Array, "B m"]:
        """The tokens that begin the items of a run; -1 where there is none left."""
        edits = self.generator.transform.init(listing.prompt(prompt.id))
        law = self.generator.transform.apply(edits, listing.logits)
        free = ~listing.tried
        if self.among is not None:
            _, near = jax.lax.top_k(law, self.among)
            free &= jnp.zeros_like(free).at[jnp.arange(len(law))[:, None], near].set(True)
        law = jnp.where(free, law, -jnp.inf)
        value, token = jax.lax.top_k(law, self.width)
        return jnp.where(jnp.isfinite(value) & listing.open[:, None], token, -1)

    def _continued(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        source: Listing,
        token: Int[Array, "B m"],
        open: Bool[Array, "B"],
        number: Int[Array, ""],
    ) -> Rows:
        """Items from their first tokens on, B * m of them."""
        alone = self.decode_from == "instruction"
        before = source.prompt(prompt.id, prompt.tokens.shape[1] if alone else None)
        known = Prefill(source.cache, jnp.zeros_like(before.length), source.hidden)
        space = before.tokens.shape[1] + self.generator.max_tokens
        first = number * self.width
        rows = fork(self.generator, key, before, known, self.width, space, first)
        there = (token >= 0).reshape(-1)
        why = jnp.where(open, Status.EXHAUSTED, Status.CAPACITY)
        rows = replace(
            rows,
            usage=Usage.zeros(len(there)),
            status=jnp.where(there, rows.status, jnp.repeat(why, self.width)).astype(jnp.int8),
        )
        raw = spread(source.logits, self.width)
        rows = append(self.generator, rows, there, raw, token.reshape(-1))
        return self.generator.advance(rows, rows.prompt_length + self.generator.max_tokens)

    def _result(
        self, prompt: Prompt, listing: Listing, runs: Items, query: Float[Array, "R B D"]
    ) -> Result:
        """All runs as one result; the leaves lead with the run."""
        batch, number = prompt.batch, self.runs * self.width

        def ordered(leaf: Array) -> Array:
            apart = leaf.reshape(self.runs, batch, self.width, *leaf.shape[2:])
            return jnp.moveaxis(apart, 0, 1).reshape(batch, number, *leaf.shape[2:])

        items: Items = jax.tree.map(ordered, runs)
        grouped = jax.vmap(lambda usage: usage.grouped(batch))(runs.usage)
        usage: Usage = jax.tree.map(lambda leaf: leaf.sum(0), grouped)
        held = listing.cache.length
        usage = replace(
            usage.add(
                prompt_tokens=prompt.length,
                target_passes=listing.passes,
                target_tokens=held,
                attended=held * (held + 1) / 2.0,
            ),
            # The lanes of one run beside the list.
            peak_cache_tokens=grouped.peak_cache_tokens.max(0) + held,
        )
        there = items.length > 0
        order = -jnp.arange(number, dtype=jnp.float32)
        return Result(
            tokens=items.tokens[:, 0],
            length=items.length[:, 0],
            logprob=items.logprob[:, 0],
            status=items.status[:, 0],
            usage=usage.priced(self.model.cost),
            trace=Explored(
                tokens=items.tokens,
                length=items.length,
                status=items.status,
                logprob=items.logprob,
                score=jnp.where(there, order, -jnp.inf),
                meter=items.meter,
                query=jnp.moveaxis(query, 0, 1),
            ),
        )
