"""A draft model that runs beside the target and not before it (Liu et al. 2024, arXiv:2408.11850).

In each round the target runs what was drafted in rounds before, the *pending* tokens, while
the draft model draws the next *window* of g tokens behind them; neither reads the other's
result. Then the pending tokens are verified and, where all hold, the window's first token is
tested as the next token of the text (it was drafted for the place that the target has just
reached), and what follows it in the window is pending:

    before a window:  pending none          ->  the first token is pre-verified, 1 emitted
    within a text:    pending g - 1 tokens  ->  post-verified, up to g emitted

The first rejection drops everything behind it. A token is tested once, against the law that it
was drawn from, which is kept with it.

Two ablations. Without pre-verification a row with nothing pending draws a whole window first,
and another beside its verification. Without post-verification nothing is drawn while pending
tokens are verified, and a full acceptance is followed by a bonus token.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from algorithms.speculative.drafters.chain import Chain, Remembered, observed
from jaxdecode import struct
from jaxdecode.cache import truncate
from jaxdecode.draft import Draft, Guess, Shape, Spent, Verdict
from jaxdecode.drafter import Now, Outcome
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel
from jaxdecode.prompt import Prompt
from jaxdecode.rows import where_rows
from jaxdecode.types import Array, Float, Int


@struct.dataclass
class Pending:
    """Tokens that were drafted and are not verified, N places of which `count` are taken."""

    tokens: Int[Array, "B N"]
    logq: Float[Array, "B N V"]
    count: Int[Array, "B"]

    @classmethod
    def of(cls, window: Draft, first: int, width: int) -> Pending:
        """The tokens of a window from its `first` on, in `width` places."""
        assert window.logq is not None
        more = width - (window.nodes - first)
        tokens = jnp.pad(window.tokens[:, first:], ((0, 0), (0, more)))
        logq = jnp.pad(window.logq[:, first:], ((0, 0), (0, more), (0, 0)))
        return cls(tokens, logq, jnp.sum(window.valid[:, first:], axis=1, dtype=jnp.int32))

    def where(self, chosen: Array, other: Pending) -> Pending:
        """These on the chosen rows, the others elsewhere."""
        return where_rows(chosen, self, other)


def guessed(pending: Pending, window: Draft) -> Guess:
    """The first token of a window, behind the pending tokens."""
    assert window.logq is not None
    return Guess(
        token=window.tokens[:, 0],
        logq=window.logq[:, 0],
        after=pending.count - 1,
        valid=window.valid[:, 0],
    )


def asked(pending: Pending, guess: Guess | None, spent: Spent) -> Draft:
    """What the target is to run; the guess is not, and may come later."""
    batch, nodes = pending.tokens.shape
    index = jnp.broadcast_to(jnp.arange(nodes), (batch, nodes))
    return Draft(
        tokens=pending.tokens,
        shape=Shape.line(batch, nodes),
        valid=index < pending.count[:, None],
        logq=pending.logq,
        source=index,
        guess=guess,
        spent=spent,
    )


@struct.dataclass
class Ahead:
    """State of the drafter.

    Attributes:
      line: the draft model's reading of text and pending tokens; text and transform are those
        of the verified text.
      pending: see `Pending`.
      window: what may be pending next.
    """

    line: Remembered
    pending: Pending
    window: Pending


@struct.dataclass
class Parallel:
    """See the module.

    Attributes:
      chain: what draws a window; its length is g.
      pre_verify, post_verify: static; the ablations.
    """

    chain: Chain
    pre_verify: bool = struct.field(pytree_node=False, default=True)
    post_verify: bool = struct.field(pytree_node=False, default=True)

    drawn = True

    def __post_init__(self) -> None:
        if not (self.pre_verify or self.post_verify):
            raise ValueError(
                "pre_verify=False, post_verify=False: that is plain speculative decoding; use "
                "the chain itself as the drafter"
            )

    @property
    def nodes(self) -> int:
        return max(self.chain.length - self.pre_verify, 1)

    @property
    def depth(self) -> int:
        return self.nodes

    @property
    def vocab_size(self) -> int | None:
        return self.chain.vocab_size

    def init(
        self,
        target: LanguageModel,
        prompt: Prompt,
        hidden: Float[Array, "B Pm1 D"],
        room: int,
        capacity: int,
    ) -> Ahead:
        ahead = 2 * self.chain.length
        line = self.chain.init(target, prompt, hidden, room + ahead, capacity + ahead)
        places = (prompt.batch, self.nodes)
        none = Pending(
            tokens=jnp.zeros(places, jnp.int32),
            logq=jnp.zeros((*places, self.chain.model.vocab_size), jnp.float32),
            count=jnp.zeros((prompt.batch,), jnp.int32),
        )
        return Ahead(line, none, none)

    def propose(self, target: LanguageModel, state: Ahead, now: Now) -> tuple[Draft, Ahead]:
        fresh = now.active & (state.pending.count == 0)
        spent = None
        if not self.pre_verify:
            first, state = self.draw(target, state, replace(now, active=fresh), 1)
            pending = Pending.of(first, 0, self.nodes).where(fresh, state.pending)
            state, spent = replace(state, pending=pending), first.spent
        if not self.post_verify:
            now = replace(now, active=fresh)
        window, state = self.draw(target, state, now, 0)
        if spent is not None:
            window = replace(window, spent=jax.tree.map(jnp.add, window.spent, spent))
        guess = guessed(state.pending, window)
        return asked(state.pending, guess, window.spent), state

    def draw(
        self, target: LanguageModel, state: Ahead, now: Now, purpose: int
    ) -> tuple[Draft, Ahead]:
        """A window behind text and pending tokens, on the active rows."""
        line, pending, length = state.line, state.pending, self.chain.length
        text = line.follower.text.append(pending.tokens, pending.count)
        edits = observed(self.chain.transform, line.transform, pending.tokens, pending.count)
        behind = replace(line, follower=replace(line.follower, text=text), transform=edits)
        limit = jnp.where(now.limit > 0, length, 0)  # rows that rest draw nothing
        now = replace(now, limit=limit, key=stream(now.key, purpose))
        window, after = self.chain.propose(target, behind, now)
        follower = replace(line.follower, cache=after.follower.cache)
        later = Pending.of(window, 1, self.nodes)
        return window, replace(state, line=replace(line, follower=follower), window=later)

    def commit(self, target: LanguageModel, state: Ahead, draft: Draft, outcome: Outcome) -> Ahead:
        return self.learn(state, outcome.verdict, outcome.tokens, outcome.count)

    def learn(
        self, state: Ahead, verdict: Verdict, tokens: Int[Array, "B Pp1"], count: Int[Array, "B"]
    ) -> Ahead:
        """What `count` of `tokens` that were emitted leave of cache, pending tokens and window."""
        line = state.line
        follower, took = line.follower, count > 0
        onwards = took & verdict.guessed & (count == verdict.count + 1)
        read = follower.cache.length
        held = jnp.minimum(read, follower.text.length + jnp.minimum(count, verdict.count))
        cache = truncate(follower.cache, jnp.where(took & ~onwards, held, read))
        text = follower.text.append(tokens, count)
        line = replace(
            line,
            follower=replace(follower, cache=cache, text=text),
            transform=observed(self.chain.transform, line.transform, tokens, count),
        )
        none = replace(state.pending, count=jnp.where(took, 0, state.pending.count))
        return replace(state, line=line, pending=state.window.where(onwards, none))
