"""AdaDec: where the next token is uncertain, look ahead before it is chosen (He et al. 2025,
arXiv 2506.08980).

While the law's entropy is below a threshold the backbone goes on, greedily as published. Where a
trigger pauses, each of the B most probable tokens c is continued greedily for up to L tokens y,
fewer where a continuation ends, and the token of the highest

    score(c) = ( ln p(c | x) + sum_{t=1..l} ln p(y_t | x, c, y_<t) ) / (l + 1)

is emitted, the more probable one of a tie. It alone: what was looked at is dropped, and the next
step asks anew. Entropies are of the raw law; candidates, continuations and scores are of the law
that the generator draws from, its edits included.

The continuations are lanes over the row's cache. The first call of a look runs the candidates
themselves, so that the chosen one's keys, values and next law are there already: a pause takes L
passes, and saves the next step's. The published code runs every prefix anew, and goes on adding
the log-probabilities of a continuation that has ended but not its length; here both stop.

`AdaDec` is an expander, for whatever takes a generator, and a decoder. `line` ends continuations
at line breaks (with `ahead=10` the published variant of a dynamic length).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from algorithms.tokens.looks import Look, Lookahead
from algorithms.tokens.rules.triggers import Trigger
from jaxdecode import autoregress, entropy, struct
from jaxdecode.appending import append
from jaxdecode.autoregress import Generator
from jaxdecode.cache import Cache, put, truncate
from jaxdecode.judge import stream
from jaxdecode.lm import LanguageModel, extend
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import Rows, check_start, run_until
from jaxdecode.sampling import step_keys
from jaxdecode.stop import Stop, StopRule
from jaxdecode.types import Array, Bool, Float, Int, Key

PAPER = Paper(
    slug="adadec",
    title="Towards Better Code Generation: Adaptive Decoding with Uncertainty Guidance",
    authors=(
        "Kaifeng He",
        "Mingwei Liu",
        "Chong Wang",
        "Zike Li",
        "Yanlin Wang",
        "Xin Peng",
        "Zibin Zheng",
    ),
    year=2025,
    arxiv="2506.08980",
    venue="FSE",
    claim="Looking a few tokens ahead from the likeliest candidates at the few steps whose entropy "
    "reaches a threshold learned from the model passes more programs than greedy decoding, for "
    "less than a beam search.",
    losslessness="not-applicable",
)
PAUSE = 31  # stream of the triggers' keys


class Paused(NamedTuple):
    """What rows remember.

    Attributes:
      known: bool[R], whether the root was run in a look, into the slot behind the prefix.
      logits: f32[R, V], of the token after the root where it was.
      entropy: f32[R, L], of the law of each token emitted, in nats.
      paused: bool[R, L], whether it was chosen by looking ahead.
    """

    known: Bool[Array, "R"]
    logits: Float[Array, "R V"]
    entropy: Float[Array, "R L"]
    paused: Bool[Array, "R L"]


@struct.dataclass
class AdaDec:
    """See the module; the trace is `Paused`.

    Attributes:
      generator: the backbone; greedy as published.
      trigger: when to pause.
      branch: static, B.
      ahead: static, L; 0 takes the most probable token.
      line: also ends a continuation; by default nothing does.
    """

    generator: Generator
    trigger: Trigger
    branch: int = struct.field(pytree_node=False, default=3)
    ahead: int = struct.field(pytree_node=False, default=5)
    line: StopRule = struct.field(default_factory=lambda: Stop.of(()))

    depth = 0

    def __post_init__(self) -> None:
        if self.branch < 1 or self.ahead < 0:
            raise ValueError(
                f"branch={self.branch}, ahead={self.ahead}: at least one candidate, and tokens "
                "from 0 on"
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

    @property
    def width(self) -> int:
        """Candidates that there are."""
        return min(self.branch, self.model.vocab_size)

    @property
    def slack(self) -> int:
        """Slots that continuations take."""
        return self.width * max(self.ahead, 1)

    def check(self, prompt: Prompt) -> None:
        """Refuse prompts from which the model cannot look ahead to the end."""
        looking = replace(self.generator, max_tokens=self.max_tokens + self.ahead)
        check_start(self.generator, prompt)
        check_start(looking, prompt)  # continuations of the last token need positions too

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        rows = autoregress.generate(self, key, prompt)
        return autoregress.finish(self, rows, trace=rows.speculation)

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows:
        """See `Generator.start`."""
        rows = self.generator.start(key, prompt, samples, capacity + self.slack, first)
        count = rows.length.shape[0]
        memory = Paused(
            known=jnp.zeros((count,), bool),
            logits=jnp.zeros((count, self.model.vocab_size), jnp.float32),
            entropy=jnp.zeros(rows.tokens.shape, jnp.float32),
            paused=jnp.zeros(rows.tokens.shape, bool),
        )
        return replace(rows, speculation=memory)

    def room(self, rows: Rows, capacity: int) -> Rows:
        """See `Generator.room`."""
        return self.generator.room(rows, capacity + self.slack)

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows:
        """See `Generator.advance`."""
        until = jnp.minimum(until, rows.cache.capacity - self.slack)

        return run_until(rows, until, self._step)

    def _step(self, rows: Rows, active: Bool[Array, "R"]) -> Rows:
        """Emit one token on every active row."""
        generator, memory, before = self.generator, rows.speculation, rows.cache.length
        fresh = active & ~memory.known

        def read() -> tuple[Array, Cache]:
            output = extend(self.model, rows.root[:, None], rows.cache, valid=fresh[:, None])
            return jnp.where(fresh[:, None], output.logits[:, 0], memory.logits), output.cache

        raw, cache = jax.lax.cond(jnp.any(fresh), read, lambda: (memory.logits, rows.cache))
        uncertain = entropy.nats(raw)
        keys = step_keys(stream(rows.key, PAUSE), rows.length)
        pause = active & self.trigger(keys, uncertain)
        edited = generator.transform.apply(rows.transform, raw)
        drawn = generator.sampler(step_keys(rows.key, rows.length), edited)
        cache, zero = truncate(cache, before + active), jnp.zeros_like(rows.length)
        look = Lookahead(generator, self.line, self.width, self.ahead)
        found = jax.lax.cond(
            jnp.any(pause),
            lambda: look(rows, cache, raw, edited, pause),
            lambda: Look(drawn, zero > 0, raw, cache, zero, zero, zero.astype(jnp.float32)),
        )
        place = jnp.where(active, rows.length, rows.tokens.shape[1])[:, None]
        after = append(generator, rows, active, raw, jnp.where(pause, found.token, drawn))
        alone, seen = fresh.astype(jnp.int32), jnp.where(active, rows.total, 0)
        return replace(
            after,
            cache=truncate(found.cache, before + active),
            speculation=Paused(
                known=jnp.where(active, found.ran, memory.known),
                logits=jnp.where(pause[:, None], found.logits, memory.logits),
                entropy=put(memory.entropy, place, uncertain[:, None]),
                paused=put(memory.paused, place, pause[:, None]),
            ),
            usage=after.usage.add(
                target_passes=alone + found.passes,
                target_tokens=alone + found.tokens,
                attended=jnp.where(fresh, seen, 0) + found.attended,
            ).peak(seen + found.tokens),
        )
