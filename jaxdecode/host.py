"""Functions of text as rewards: whatever Python can say of a response, inside a jitted decode.

    judge = HostJudge.of(lambda text: float("42" in text), tokenizer)
    BestOfN(generator, judge.scorer, samples=4)                 # selection
    PlanningGuided(model, stop, judge.evaluator, max_tokens=64) # searches
    Setting(generator, judge, beta=0.1)                         # training
    judge.log.failures                                          # what went wrong, with its text

The function runs on the host, through one callback for all rows of a round, and is called once for
every live text and for no other: rows that are done, lanes that made nothing and broken rows are
left out, and the account (`scorer_passes`) counts exactly its calls. A call that raises, or that
gives no finite number, makes its own text invalid; the others keep theirs, and the text and the
error are kept in `log`. A judge's first failure is a warning. A call may come twice for one text; a
function that is slow remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import io_callback

from jaxdecode import struct
from jaxdecode.cache import spread
from jaxdecode.host_calls import Decodes, Host, Log, arity
from jaxdecode.nodes import Arena, Fresh
from jaxdecode.process_reward import Judgement, bounded
from jaxdecode.prompt import Prompt
from jaxdecode.result import Status
from jaxdecode.rows import Rows
from jaxdecode.scoring import Spent
from jaxdecode.types import Array, Bool, Float, Int


@struct.dataclass
class HostJudge:
    """A function of text as a reward of any kind; make one by `of`. See the module.

    Attributes:
      host: static, by identity: decoders with one judge share their compiled programs.
      given: arrays, the function's first arguments; with others the program stays the same.
    """

    host: Host = struct.field(pytree_node=False)
    given: tuple[Any, ...] = ()

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        tokenizer: Decodes,
        batched: bool = False,
        given: Sequence[Any] = (),
    ) -> HostJudge:
        """A judge.

        Args:
          function: of the response's text, or of the prompt's and the response's, or of the
            prompt's id and both; gives a number, the higher the better.
          tokenizer: turns ids into text by `decode`, or by `decode_pair` where it has that.
          batched: the function takes lists and gives as many numbers, or exceptions.
          given: numbers or arrays that it takes before those.
        Raises:
          ValueError: naming the argument, its value and what to do.
        """
        if not callable(function):
            raise ValueError(f"function={function!r} cannot be called; pass a function of text")
        if not callable(getattr(tokenizer, "decode", None)):
            raise ValueError(
                f"tokenizer={tokenizer!r} has no `decode`; pass the generator's tokenizer, whose "
                "ids the function's texts are made of"
            )
        texts = arity(function, len(given))
        return cls(Host(function, tokenizer, texts, batched), tuple(map(jnp.asarray, given)))

    @property
    def log(self) -> Log:
        return self.host.log

    @property
    def scorer(self) -> HostScorer:
        """For methods that take a `Scorer`: best-of-N, rejection, guidance."""
        return HostScorer(self)

    @property
    def evaluator(self) -> HostEvaluator:
        """For searches, whose pieces it rewards."""
        return HostEvaluator(self)

    def __call__(self, prompt: Prompt, rows: Rows) -> Float[Array, "R"]:
        """The reward of finished responses, as training takes it."""
        live = rows.status != Status.INVALID
        prompts = spread(prompt, rows.length.shape[0] // prompt.batch)
        return self.ask(live, prompts, rows.tokens, rows.length)

    def ask(
        self,
        live: Bool[Array, "R"],
        prompt: Prompt,
        tokens: Int[Array, "R L"],
        length: Int[Array, "R"],
    ) -> Float[Array, "R"]:
        """Rewards of R texts, NaN where one is not live or has none."""
        shape = jax.ShapeDtypeStruct(length.shape, jnp.float32)
        given = (self.given, live, prompt.id, prompt.tokens, prompt.length, tokens, length)
        # Not a pure callback: those may be left out, or run more often than is counted.
        return io_callback(self.host, shape, *given, ordered=False)


@struct.dataclass
class HostScorer:
    """A judge as a `Scorer`; a row that has emitted nothing is not judged."""

    judge: HostJudge

    def init(self, prompt: Prompt, samples: int) -> tuple[Any, Spent]:
        return (), Spent.nothing(prompt.batch * samples)

    def score(
        self, state: Any, prompt: Prompt, rows: Rows, window: int
    ) -> tuple[Float[Array, "R"], Any, Spent]:
        count = rows.length.shape[0]
        live = (rows.status != Status.INVALID) & (rows.length > 0)
        prompts = spread(prompt, count // prompt.batch)
        score = self.judge.ask(live, prompts, rows.tokens, rows.length)
        return score, state, replace(Spent.nothing(count), passes=live.astype(jnp.int32))


@struct.dataclass
class HostEvaluator:
    """A judge as an `Evaluator`: of the pieces that a round made, or of what completes them.

    Rewards are in [0, 1]; those outside are brought there and counted.
    """

    judge: HostJudge

    def init(self, arena: Arena) -> tuple[Judgement, Spent]:
        batch = arena.prompt.batch
        return Judgement(jnp.zeros((batch,), jnp.int32)), Spent.nothing(batch)

    def score(
        self, state: Judgement, arena: Arena, fresh: Fresh
    ) -> tuple[Float[Array, "B K"], Judgement, Spent]:
        batch, lanes = fresh.parent.shape
        tokens, length = fresh.outlook or (fresh.tokens, fresh.length)
        live = fresh.alive & (fresh.status != Status.INVALID)
        rows = tokens.reshape(batch * lanes, -1)
        prompts = spread(arena.prompt, lanes)
        found = self.judge.ask(live.reshape(-1), prompts, rows, length.reshape(-1))
        spent = replace(Spent.nothing(batch), passes=jnp.sum(live, axis=1, dtype=jnp.int32))
        reward, outside = bounded(found.reshape(batch, lanes))
        counted = state.outside + jnp.sum(outside & live, axis=1)
        return reward, replace(state, outside=counted), spent
