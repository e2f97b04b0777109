"""Self-certainty: N responses, judged by the model's own certainty (Kang et al. 2025, arXiv
2502.18581).

`SelfCertainty` returns the most certain response. It suits open-ended tasks, where no two
responses are equal. `Voting` is for tasks whose responses end in an answer: the responses vote
for their answers, by default with the votes (N - rank + 1) ** power of their certainty's rank.

Certainty is read from the raw logits while responses are drawn, so that neither costs a pass
beyond the N samples. Deliberate differences from the authors' code: the distributions
are those that drew the response's tokens, where the code's slice lies one position later
(`jaxdecode.certainty.score_certainty` has it as `shifted`); sums are in float32; and padded
vocabulary entries do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from algorithms.selection.best_of_n import BestOfN, Pool
from jaxdecode import struct
from jaxdecode.autoregress import Generator
from jaxdecode.certainty import MEASURES, CertaintyMeter, Measure
from jaxdecode.decoder import Decoder
from jaxdecode.paper import Paper
from jaxdecode.prompt import Prompt
from jaxdecode.result import Result, Status
from jaxdecode.rows import Rows
from jaxdecode.scoring import Spent
from jaxdecode.types import Array, Float, Int, Key
from jaxdecode.unmask import Unmasker
from jaxdecode.voting import borda, valid

PAPER = Paper(
    slug="self_certainty",
    title="Scalable Best-of-N Selection for Large Language Models via Self-Certainty",
    authors=("Zhewei Kang", "Xuandong Zhao", "Dawn Song"),
    year=2025,
    arxiv="2502.18581",
    venue="NeurIPS 2025",
    claim="with no reward model, ranking samples by KL(uniform || p) keeps improving with N, and "
    "Borda votes by that rank beat majority voting",
    losslessness="not-applicable",
)

Answer = Callable[[Int[Array, "R L"], Int[Array, "R"]], Int[Array, "R"]]
"""(response tokens, length) -> answer ids, -1 for none; may be a `jax.pure_callback`."""


@struct.dataclass
class MeterScorer:
    """Scores a response, finished or not, by a measure that a `CertaintyMeter` has kept.

    A response that met a logit that is not finite has no finite score: engines mark it
    invalid. One without a counted token is sound, and less certain than any other.
    """

    measure: Measure = struct.field(pytree_node=False, default="kl")

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ValueError(f"measure={self.measure!r} must be one of {', '.join(MEASURES)}")

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return (), Spent.nothing(prompt.batch * samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        certainty = rows.meter.mean()
        score = getattr(certainty, self.measure)
        score = jnp.where(certainty.length > 0, score, jnp.finfo(jnp.float32).min)
        return score, state, Spent.nothing(rows.length.shape[0])


@struct.dataclass
class SelfCertainty:
    """Draws `samples` responses and returns the most certain one.

    The paper draws 64 with temperature 0.6 and top-p 0.9. The trace is the `Pool` of all
    responses; `trace.meter.mean()` has every measure of each.

    Attributes:
      generator: how responses are drawn; its meter is replaced by a `CertaintyMeter`.
      samples: static, N.
      measure: static; the default is the paper's.
      base: f32[V], in place of the uniform distribution; None for uniform.
      include_end: static; count the end token's position too.
      wave: static; how many to draw at a time, see `BestOfN`.
    """

    generator: Generator | Unmasker
    samples: int = struct.field(pytree_node=False)
    measure: Measure = struct.field(pytree_node=False, default="kl")
    base: Float[Array, "V"] | None = None
    include_end: bool = struct.field(pytree_node=False, default=False)
    wave: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        BestOfN(self.generator, MeterScorer(self.measure), self.samples, self.wave)  # may refuse

    def best_of_n(self) -> BestOfN:
        """The same decoder as best-of-N with this meter and scorer."""
        meter = CertaintyMeter(self.generator.stop.eos, self.base, self.include_end)
        generator = replace(self.generator, meter=meter)
        return BestOfN(generator, MeterScorer(self.measure), self.samples, self.wave)

    def check(self, prompt: Prompt) -> None:
        self.best_of_n().check(prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        return self.best_of_n()(key, prompt)


@struct.dataclass
class Ballot:
    """All responses of a vote: `pool.score` are the confidences, `chosen` the index returned."""

    pool: Pool
    answers: Int[Array, "B N"]
    chosen: Int[Array, "B"]


@struct.dataclass
class Voting:
    """Lets the candidates vote for their answers, and returns the first with the one elected.

    A prompt none of whose candidates has an answer gets its first candidate, with status
    INVALID.

    Attributes:
      candidates: a decoder whose trace is a `Pool`: `SelfCertainty`, or `BestOfN` with any
        scorer, whose scores are then the confidences.
      answer: static; the answers of B * N responses.
      rule: a function of `jaxdecode.voting` from (answers, confidence) to an index, as a
        `Partial` so that its numbers are leaves: Partial(borda, power=1.2), Partial(majority).
    """

    candidates: Decoder
    answer: Answer = struct.field(pytree_node=False)
    rule: Partial = struct.field(default_factory=lambda: Partial(borda, power=0.5))

    def check(self, prompt: Prompt) -> None:
        self.candidates.check(prompt)

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result:
        result = self.candidates(key, prompt)
        pool = result.trace
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (pool.tokens, pool.length))
        answers = self.answer(*flat).reshape(pool.score.shape)
        chosen = jax.vmap(self.rule)(answers, pool.score)

        def pick(array: Array) -> Array:
            return array[jnp.arange(array.shape[0]), chosen]

        elected = jnp.any(valid(answers, pool.score), axis=1)
        return Result(
            tokens=pick(pool.tokens),
            length=pick(pool.length),
            logprob=pick(pool.logprob),
            status=jnp.where(elected, pick(pool.status), Status.INVALID).astype(jnp.int8),
            usage=result.usage,
            trace=Ballot(pool=pool, answers=answers, chosen=chosen),
        )


def on_host(extract: Callable[[list[int]], Hashable | None]) -> Answer:
    """An `answer` from a Python function of one response's tokens; None is no answer.

    Responses of a call get the same id where what is extracted is equal. Keep the function
    that is returned: a decoder with another one compiles again.
    """

    def ids(tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
        seen: dict[Hashable, int] = {None: -1}
        found = [extract(row[:n].tolist()) for row, n in zip(tokens, length, strict=True)]
        return np.array([seen.setdefault(answer, len(seen) - 1) for answer in found], np.int32)

    def answer(tokens: Int[Array, "R L"], length: Int[Array, "R"]) -> Int[Array, "R"]:
        shape = jax.ShapeDtypeStruct(length.shape, jnp.int32)
        return jax.pure_callback(ids, shape, tokens, length, vmap_method="sequential")

    return answer
