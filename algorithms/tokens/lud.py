"""LUD: several tokens a pass where the model is sure of them (Sun et al. 2024, arXiv 2405.15208).

A pass runs the tokens that are not cached yet and k - 1 placeholders behind them. The law at the
last token and those at the placeholders each say a token y_i, of probability c_i; of these

    n = max(1, the longest prefix with every c_i >= beta and no y_i that repeats y_{i-1})

are emitted, y_1 as in plain decoding. The next pass runs them as tokens; placeholders leave
nothing behind. The model is to have learned to say lexical units (`lexical_units`). Nothing is
verified, and beta trades likeness to plain decoding for speed: above 1 the text is that of plain
decoding. `algorithms.speculative.drafters.placeholders` is the exact form.

The published text leaves open what the first token does to the others: with `first_free` its
probability does not count. A law that remembers (a penalty) is edited along the span. The
log-probability is that of plain decoding: a span's tokens are scored when they are run as
tokens, those of the last one in a pass of their own (`rescored`), which the usage has as a
scorer's.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from algorithms.tokens.rules.acceptance import Acceptance, Confident
from algorithms.tokens.rules.stutter import Same, Stutter
from jaxdecode import autoregress, struct
from jaxdecode.autoregress import Generator, fork
from jaxdecode.cache import truncate
from jaxdecode.draft import Draft, Shape, Spent, Verdict, at
from jaxdecode.emission import emit
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, ModelOutput, extend, prefill
from jaxdecode.logits import noted
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import Rows, check_start, run_until
from jaxdecode.sampling import step_keys
from jaxdecode.speculate import hear
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="lud",
    title="Decoding at the Speed of Thought: Harnessing Parallel Decoding of Lexical Units for "
    "LLMs",
    authors=(
        "Chenxi Sun",
        "Hongzhi Zhang",
        "Zijia Lin",
        "Jingyuan Zhang",
        "Fuzheng Zhang",
        "Zhongyuan Wang",
        "Bin Chen",
        "Chengru Song",
        "Di Zhang",
        "Kun Gai",
        "Deyi Xiong",
    ),
    year=2024,
    arxiv="2405.15208",
    venue="LREC-COLING",
    claim="A model that learned to say its lexical units at once writes text 33 % faster without "
    "loss of quality, and code 30 % faster at a loss of 3 %.",
    losslessness="approximate",
)
ACCEPT = 33  # stream of the keys of acceptance


class Span(NamedTuple):
    """What rows remember: the newest tokens, `count` of which are not in the cache, and what the
    laws they were drawn from gave those after the first, until they are scored."""

    pending: Int[Array, "R k"]
    count: Int[Array, "R"]
    unscored: Float[Array, "R"]


@struct.dataclass
class LUD:
    """See the module; the histogram of the usage is that of the spans, less one.

    Attributes:
      generator: the model, and the rules it writes by.
      pad: the placeholder's id.
      longest: static, k.
      accept: whether a token is accepted; by beta as published.
      stutter: which tokens repeat the one before, and end a span before them.
      first_free: static; see the module.
      rescored: static; see the module.
    """

    generator: Generator
    pad: Int[Array, ""] | int
    longest: int = struct.field(pytree_node=False, default=4)
    accept: Acceptance = Confident()
    stutter: Stutter = Same()
    first_free: bool = struct.field(pytree_node=False, default=False)
    rescored: bool = struct.field(pytree_node=False, default=True)

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"longest={self.longest}: at least one token is said")

    @property
    def model(self) -> LanguageModel:
        return self.generator.model

    @property
    def max_tokens(self) -> int:
        return self.generator.max_tokens

    @property
    def cache_growth(self) -> int:
        return self.generator.cache_growth

    @property
    def depth(self) -> int:
        return self.longest - 1

    @property
    def slack(self) -> int:
        """Slots that a pass takes beyond the text."""
        return 2 * self.longest - 1

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rows = autoregress.generate(self, key, prompt)
        if self.rescored:
            rows = self._settle(rows)
        return autoregress.finish(self, rows, trace=rows.meter)

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Generator.start`."""
        read = prefill(self.model, prompt, prompt.tokens.shape[1])
        room = capacity + self.slack
        rows = fork(self.generator, key, prompt, read, samples, room, first, self.depth)
        pending = jnp.pad(rows.root[:, None], ((0, 0), (0, self.longest - 1)))
        memory = Span(pending, jnp.ones_like(rows.length), jnp.zeros_like(rows.logprob))
        return replace(rows, speculation=memory)

    def room(self, rows: Rows, capacity: int) -> Rows:
        """See `Generator.room`."""
        return self.generator.room(rows, capacity + self.slack)

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """See `Generator.advance`."""
        until = jnp.minimum(until, rows.cache.capacity - self.slack)

        return run_until(rows, until, functools.partial(self._step, until=until))

    def _step(self, rows: Rows, active: Bool[Array, "R"], until: Int[Array, "R"]) -> Rows:
        """A span on every active row."""
        memory, k = rows.speculation, self.longest
        count, order = memory.count[:, None], jnp.arange(2 * k - 1)
        pending = jnp.pad(memory.pending, ((0, 0), (0, k - 1)))
        tokens = jnp.where(order < count, pending, self.pad)
        valid = (order < count + k - 1) & active[:, None]
        output = extend(self.model, tokens, rows.cache, valid=valid)
        here = (count - 1 + jnp.arange(k))[..., None]
        laws = ModelOutput(
            logits=jnp.take_along_axis(output.logits, here, axis=1),
            hidden=jnp.take_along_axis(output.hidden, here, axis=1),
            cache=output.cache,
        )
        said, accepted = self._said(rows, laws.logits)
        accepted = jnp.where(active, accepted, 0)
        line = jnp.broadcast_to(jnp.arange(k - 1, dtype=jnp.int32), (len(said), k - 1))
        draft = Draft(
            tokens=said[:, : k - 1],
            shape=Shape.line(len(said), k - 1),
            valid=jnp.broadcast_to(active[:, None], line.shape),
            spent=Spent.nothing(len(said)),
        )
        verdict = Verdict(line, accepted, at(said, accepted), accepted < 0)
        judge = hear(self.generator, rows, laws, active)
        after, outcome = emit(self.generator, rows, active, until, draft, verdict, laws, judge)
        true = scored(output.logits[:, : k - 1], memory.pending, memory.count)
        first = scored(laws.logits[:, :1], outcome.tokens[:, :1], outcome.count + 1, skip=0)
        gained = after.logprob - rows.logprob
        more = memory.count - 1
        seen = more * (rows.total - more) + more * (more - 1) / 2.0
        run = jnp.where(active, more, 0)
        return replace(
            after,
            cache=truncate(output.cache, rows.cache.length + jnp.where(active, memory.count, 0)),
            logprob=after.logprob + jnp.where(active, true - memory.unscored, 0.0),
            speculation=Span(
                pending=jnp.where(active[:, None], outcome.tokens, memory.pending),
                count=jnp.where(active, outcome.count, memory.count),
                unscored=jnp.where(active, gained - first, memory.unscored),
            ),
            usage=after.usage.add(target_tokens=run, attended=jnp.where(active, seen, 0.0)).peak(
                jnp.where(active, rows.total + k - 1, 0)
            ),
        )

    def _said(
        self, rows: Rows, logits: Float[Array, "R k V"]
    ) -> tuple[Int[Array, "R k"], Int[Array, "R"]]:
        """The token that each law says, and how many after the first are accepted."""
        state, going, before = rows.transform, jnp.ones(rows.length.shape, bool), rows.root
        said, count = [], jnp.zeros_like(rows.length)
        for place in range(self.longest):
            edited = self.generator.transform.apply(state, logits[:, place])
            token = self.generator.sampler(step_keys(rows.key, rows.length + place), edited)
            law = jax.nn.softmax(edited)
            sure = jnp.take_along_axis(law, jnp.maximum(token, 0)[:, None], axis=1)[:, 0]
            # A place may come up in several passes, each of which asks anew.
            ask = rows.length * self.longest + place
            keys = step_keys(stream(rows.key, ACCEPT), ask)
            sure = self.accept(keys, sure) & (token >= 0)
            if place:
                going &= sure & ~self.stutter(before, token)
                count += going
            elif not self.first_free:
                going &= sure
            accepted = going | (place == 0)
            spoken = jnp.maximum(token, 0)
            state = noted(self.generator.transform, state, logits[:, place], spoken, accepted)
            said.append(token)
            before = token
        return jnp.stack(said, axis=1), count

    def _settle(self, rows: Rows) -> Rows:
        """Score the tokens of the last spans as plain decoding would."""
        memory = rows.speculation
        owed = memory.count > 1

        def score() -> Rows:
            order = jnp.arange(self.longest)
            valid = (order < memory.count[:, None] - 1) & owed[:, None]
            logits = extend(self.model, memory.pending, rows.cache, valid=valid).logits
            true = scored(logits[:, :-1], memory.pending, memory.count)
            ran = jnp.sum(valid, axis=1)
            attended = ran * rows.cache.length + ran * (ran + 1) / 2.0
            cost = self.model.cost
            return replace(
                rows,
                logprob=rows.logprob + jnp.where(owed, true - memory.unscored, 0.0),
                usage=rows.usage.add(
                    scorer_passes=owed.astype(jnp.int32),
                    scorer_tokens=ran,
                    flops=2.0 * cost.parameters * ran + cost.attention * attended,
                ),
            )

        return jax.lax.cond(jnp.any(owed), score, lambda: rows)


def scored(
    logits: Float[Array, "R N V"],
    tokens: Int[Array, "R T"],
    count: Int[Array, "R"],
    skip: int = 1,
) -> Float[Array, "R"]:
    """Sum of log p of the tokens from `skip` to `count`, logits i being those of token i + skip."""
    chosen = tokens[:, skip : skip + logits.shape[1]]
    logp = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[..., None], axis=2)[..., 0]
    inside = jnp.arange(logits.shape[1]) < count[:, None] - 1
    return jnp.sum(jnp.where(inside, logp, 0.0), axis=1)
