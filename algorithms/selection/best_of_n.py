"""Best-of-N: draw N responses to the end, return the one with the highest score."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode import population, register, struct
from jaxdecode.autoregress import capacities
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result
from jaxdecode.rows import Expander, check_start
from jaxdecode.scoring import Scorer
from jaxdecode.types import Array, Float, Int, Key


@struct.dataclass
class Pool:
    """All N responses of every prompt, the trace of best-of-N.

    `best` is the number of the sample returned, counted from 0 and not from the decoder's
    `first`; -1 where no response has a score. `meter` is the state of the generator's meter,
    every leaf [B, N, ...].
    """

    tokens: Int[Array, "B N L"]
    length: Int[Array, "B N"]
    status: Int[Array, "B N"]
    logprob: Float[Array, "B N"]
    score: Float[Array, "B N"]
    best: Int[Array, "B"]
    meter: Any


@struct.dataclass
class BestOfN:
    """Draw `samples` responses and keep the best by `scorer`.

    Attributes:
      generator: how responses are drawn.
      scorer: scores completed responses.
      samples: static, N.
      wave: static; draw that many at a time, so that memory is bounded by the wave and not
        by N; every wave runs the prompt again. The responses are the same for every wave, and
        the first n of N are the responses of a run with n.
      first: index of the first sample; a later run goes on drawing where one with fewer
        samples stopped.
    """

    generator: Expander
    scorer: Scorer
    samples: int = struct.field(pytree_node=False)
    wave: int | None = struct.field(pytree_node=False, default=None)
    first: int | Int[Array, ""] = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples={self.samples}: best-of-N needs at least one sample")
        if self.wave is not None and (self.wave < 1 or self.samples % self.wave):
            raise ValueError(
                f"wave={self.wave} must divide samples={self.samples}; "
                "choose a divisor, or None to draw all at once"
            )

    def check(self, prompt: Prompt) -> None:
        check_start(self.generator, prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        wave = self.wave or self.samples
        sizes = capacities(self.generator, prompt.tokens.shape[1])

        def draw(first: Int[Array, ""]) -> tuple[register.Outcome, dict[str, Any]]:
            drawn = population.start(
                self.generator, self.scorer, key, prompt, wave, sizes[0], first
            )
            for size in sizes:
                drawn = population.advance(self.generator, drawn, size)
            drawn = population.evaluate(self.scorer, drawn, self.generator.max_tokens)
            rows = drawn.rows
            pool = {
                "tokens": rows.tokens,
                "length": rows.length,
                "status": rows.status,
                "logprob": rows.logprob,
                "meter": rows.meter,
            }
            pool = jax.tree.map(drawn.per_prompt, pool)
            return population.outcome(drawn), pool | {"score": drawn.score}

        firsts = self.first + jnp.arange(0, self.samples, wave, dtype=jnp.int32)
        outcomes, pools = jax.lax.map(draw, firsts)
        outcome = register.merge(outcomes)
        pool = jax.tree.map(lambda waves: jnp.concatenate(list(waves), axis=1), pools)
        return register.finish(
            self.generator, outcome, trace=Pool(best=outcome.best.sample, **pool)
        )
