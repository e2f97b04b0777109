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
items being ways to an answer; `conclusions` asks each for its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.appending import append
from jaxdecode.autoregress import Generator, fork
from jaxdecode.cache import Cache, spread, truncate
from jaxdecode.follower import Follower, catch_up
from jaxdecode.lm import LanguageModel, Prefill, extend, prefill
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status, Usage
from jaxdecode.rows import Rows, check_start
from jaxdecode.text import Text
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
STRIDE = 32  # tokens of the list read at once
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


class Items(NamedTuple):
    """What is kept of the rows of a run: B * m items, prompt by prompt."""

    tokens: Int[Array, "BM L"]
    length: Int[Array, "BM"]
    status: Int[Array, "BM"]
    logprob: Float[Array, "BM"]
    meter: Any
    usage: Usage

    @classmethod
    def of(cls, rows: Rows) -> Items:
        """From rows that have ended."""
        return cls(rows.tokens, rows.length, rows.status, rows.logprob, rows.meter, rows.usage)


class Listing(NamedTuple):
    """The list under way.

    Attributes:
      text: prompt and list.
      cache, logits, hidden: after reading it.
      tried: bool[B, V], tokens that began an item.
      open: bool[B], whether there is room for more.
      passes: i32[B], that reading took.
    """

    text: Text
    cache: Cache
    logits: Float[Array, "B V"]
    hidden: Float[Array, "B D"]
    tried: Bool[Array, "B V"]
    open: Bool[Array, "B"]
    passes: Int[Array, "B"]


@struct.dataclass
class ICN:
    """Returns the first item, which is what the generator says; the trace is `Explored`.

    Attributes:
      generator: continues items; greedy as published. Its end rules are what closes an item, and
        the last token of what is closed is no part of it.
      between: i32[N, S], what stands behind each item in the list, up to where the next begins;
        -1 past its end.
      nothing: i32[W], what is listed for an item that did not end; W may be 0.
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
    between: Int[Array, "N S"]
    nothing: Int[Array, "W"]
    runs: int = struct.field(pytree_node=False)
    width: int = struct.field(pytree_node=False)
    among: int | None = struct.field(pytree_node=False, default=None)
    decode_from: Source = struct.field(pytree_node=False, default="instruction")
    room: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self):
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
        for token in (*nothing, *(t for line in between for t in line)):
            if not 0 <= token < generator.model.vocab_size:
                raise ValueError(
                    f"between, nothing: {token} is no token of the {generator.model.vocab_size}"
                )
        table = np.full((runs * width, max([1, *map(len, between)])), -1, np.int32)
        for row, line in enumerate(between):
            table[row, : len(line)] = list(line)
        filler = jnp.asarray(list(nothing), jnp.int32)
        return cls(generator, jnp.asarray(table), filler, runs, width, **options)

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def list_room(self) -> int:
        """Tokens that the list may have when it is read."""
        item = max(self.generator.max_tokens, self.nothing.shape[0]) + self.between.shape[1]
        most = (self.runs - 1) * self.width * item
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
        batch, width = prompt.tokens.shape
        room = width + self.list_room
        read = prefill(self.model, prompt, room + STRIDE)
        asked = extend(self.model, read.root[:, None], read.cache)
        start = Listing(
            text=Text.of(prompt, room),
            cache=truncate(asked.cache, prompt.length),
            logits=asked.logits[:, 0],
            hidden=asked.hidden[:, 0],
            tried=jnp.zeros((batch, self.model.vocab_size), bool),
            open=jnp.ones((batch,), bool),
            passes=1 + (prompt.length > 1),
        )

        def run(listing: Listing, number: Int[Array, ""]) -> tuple[Listing, tuple[Items, Array]]:
            token = self._chosen(prompt, listing)
            source = start if self.decode_from == "instruction" else listing
            rows = self._continued(key, prompt, source, token, listing.open, number)
            items = Items.of(rows)
            after = self._listed(listing, token, items, number)
            return self._read(after, number), (items, listing.hidden)

        listing, (items, query) = jax.lax.scan(run, start, jnp.arange(self.runs))
        return self._result(prompt, listing, items, query)

    def _chosen(self, prompt: Prompt, listing: Listing) -> Int[Array, "B m"]:
        """The tokens that begin the items of a run; -1 where there is none left."""
        text = listing.text
        edits = self.generator.transform.init(
            Prompt(jnp.maximum(text.tokens, 0), text.length, prompt.id)
        )
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
        text, first = source.text, number * self.width
        room = text.tokens.shape[1] if self.decode_from == "list" else prompt.tokens.shape[1]
        before = Prompt(jnp.maximum(text.tokens[:, :room], 0), text.length, prompt.id)
        known = Prefill(source.cache, jnp.zeros_like(text.length), source.hidden)
        space = room + self.generator.max_tokens
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

    def _listed(
        self, listing: Listing, token: Int[Array, "B m"], items: Items, number: Int[Array, ""]
    ) -> Listing:
        """The list with a run's items, as far as there is room."""
        shape, most = token.shape, listing.text.tokens.shape[1]
        closed = (items.status == Status.EOS).reshape(shape)
        size = max(items.tokens.shape[1], self.nothing.shape[0])
        said = _wide(items.tokens, size).reshape(*shape, size)
        instead = _wide(self.nothing[None], size)
        item = jnp.where(closed[..., None], said, instead)
        count = jnp.where(closed, items.length.reshape(shape) - 1, self.nothing.shape[0])

        def one(place: Int[Array, ""], state: tuple[Text, Array]) -> tuple[Text, Array]:
            text, open = state
            line = self.between[number * self.width + place]
            marks = jnp.sum(line >= 0)
            there = (token[:, place] >= 0) & open
            fits = text.length + count[:, place] + marks <= most
            open &= fits | ~there
            adds = there & fits
            text = text.append(item[:, place], jnp.where(adds, count[:, place], 0))
            lines = jnp.broadcast_to(line, (shape[0], len(line)))
            return text.append(lines, jnp.where(adds, marks, 0)), open

        text, open = jax.lax.fori_loop(0, self.width, one, (listing.text, listing.open))
        vocab = listing.tried.shape[1]
        begun = jnp.where(token >= 0, token, vocab)
        tried = listing.tried.at[jnp.arange(shape[0])[:, None], begun].set(True, mode="drop")
        # What does not fit after the last run is missed by nobody.
        open = jnp.where(number + 1 < self.runs, open, listing.open)
        return listing._replace(text=text, tried=tried, open=open)

    def _read(self, listing: Listing, number: Int[Array, ""]) -> Listing:
        """Read what was listed, where a run is to follow."""
        goes = listing.open & (number + 1 < self.runs)
        found = catch_up(self.model, Follower(listing.cache, listing.text), goes, STRIDE)
        moved = (found.spent.tokens > 0)[:, None]
        return listing._replace(
            cache=found.cache,
            logits=jnp.where(moved, found.logits, listing.logits),
            hidden=jnp.where(moved, found.hidden, listing.hidden),
            passes=listing.passes + found.spent.passes,
        )

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


def _wide(tokens: Int[Array, "R L"], size: int) -> Int[Array, "R size"]:
    return jnp.pad(tokens, ((0, 0), (0, size - tokens.shape[1])))
