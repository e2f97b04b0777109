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
error are kept in `log`. A call may come twice for one text; a function that is slow remembers.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxdecode import struct
from jaxdecode.cache import spread
from jaxdecode.nodes import Arena, Fresh
from jaxdecode.process_reward import Judgement, bounded
from jaxdecode.prompt import Prompt
from jaxdecode.ranges import in_32_bits
from jaxdecode.result import Status
from jaxdecode.rows import Rows
from jaxdecode.scoring import Spent
from jaxdecode.types import Array, Bool, Float, Int

KEPT = 1000  # failures that a log keeps


class Decodes(Protocol):
    """A tokenizer, as far as a judge needs one."""

    def decode(self, ids: Any, /) -> Any: ...


class Tokens:
    """For functions of token ids: what stands in for a tokenizer, whose texts are tuples of ids."""

    def decode(self, ids: Any, /) -> tuple[int, ...]:
        return tuple(ids)


@dataclass(frozen=True)
class Failure:
    """A text that got no reward, and why."""

    prompt: Any
    text: Any
    error: str


@dataclass(eq=False)
class Log:
    """What a judge was asked.

    Attributes:
      asked: texts that the function was called for.
      rounds: callbacks that held at least one.
      failures: the first 1000 texts without a reward; `failed` counts all.
    """

    asked: int = 0
    rounds: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    __fingerprint__ = "Log"  # what was asked before says nothing of what is answered


@dataclass(eq=False)
class Host:
    """The side of the host: function, tokenizer, log. Compared by identity, as all state is."""

    function: Callable[..., Any]
    tokenizer: Decodes
    texts: int
    batched: bool
    log: Log = field(default_factory=Log)
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, given, live, ids, prompts, starts, tokens, lengths) -> np.ndarray:
        """f32[R]; NaN where a text is not live or got no reward."""
        rewards = np.full(np.shape(live), np.nan, np.float32)
        rows = np.flatnonzero(np.asarray(live))
        if not rows.size:
            return rewards
        with self.lock:
            texts = self._decoded(rows, tokens, lengths)
            asked = self._decoded(rows, prompts, starts) if self.texts > 1 else [""] * len(texts)
            columns = [np.asarray(ids)[rows].tolist(), asked, texts][-self.texts :]
            self.log.asked += len(texts)
            self.log.rounds += 1
            found = self._rewards([np.asarray(value) for value in given], columns)
            for row, prompt, text, reward in zip(rows, asked, texts, found, strict=True):
                error = _wrong(reward)
                if error is None:
                    rewards[row] = reward
                    continue
                self.log.failed += 1
                if len(self.log.failures) < KEPT:
                    self.log.failures.append(Failure(prompt, text, error))
        return rewards

    def _decoded(self, rows: Any, tokens: Any, lengths: Any) -> list[Any]:
        tokens, lengths = np.asarray(tokens), np.asarray(lengths)
        return [self.tokenizer.decode(tokens[row, : lengths[row]].tolist()) for row in rows]

    def _rewards(self, given: list[Any], columns: list[list[Any]]) -> Sequence[Any]:
        """What the function gave for each, or the exception that it raised."""
        if not self.batched:
            rows = zip(*columns, strict=True)
            return [_tried(self.function, *given, *row) for row in rows]
        count, found = len(columns[-1]), _tried(self.function, *given, *columns)
        if isinstance(found, Exception):
            return [found] * count
        try:
            found = list(found)
        except TypeError:
            found = [found]
        if len(found) != count:
            wrong = ValueError(
                f"function: {len(found)} rewards for {count} texts; give one for each, in their "
                "order"
            )
            return [wrong] * count
        return found


def _tried(function: Callable[..., Any], *given: Any) -> Any:
    try:
        return function(*given)
    except Exception as error:  # the text's own fault, whatever it is
        return error


def _wrong(given: Any) -> str | None:
    """Why something is no reward; None where it is one."""
    if isinstance(given, Exception):
        return f"{type(given).__name__}: {given}"
    if isinstance(given, np.ndarray | jax.Array) and given.ndim == 0:
        given = given.item()
    if not isinstance(given, int | float | Real | np.number | np.bool_):
        return f"function gave {repr(given)[:80]}; give a number"
    finite = np.isfinite(in_32_bits(given))
    return None if finite else f"function gave {str(given)[:80]}; give a finite number of 32 bits"


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
          tokenizer: turns ids into text by `decode`.
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
        texts = _texts(function, len(given))
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


def _texts(function: Callable[..., Any], given: int) -> int:
    """How many of response, prompt and id a function takes behind `given` others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in; the response is all that it gets
        return 1
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in places) - given
    more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if named or needed > 3 or (len(places) <= given and not more):
        raise ValueError(
            f"function={getattr(function, '__name__', function)!s}{inspect.signature(function)}: "
            "it must take the response's text, or the prompt's and the response's, or the "
            "prompt's id and both, behind what is `given`; bind others with functools.partial"
        )
    return max(needed, 1)
