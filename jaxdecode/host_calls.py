"""The host's side of a judge: what it calls, for which texts, and what it keeps of failures.

See `jaxdecode.host`, which is what users take.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxdecode.ranges import in_32_bits
from jaxdecode.types import Array, Bool, Int

KEPT = 1000  # failures that a log keeps


@runtime_checkable
class Decodes(Protocol):
    """A tokenizer, as far as a judge needs one.

    One that has `decode_pair` besides, (prompt's ids, response's ids) -> both texts, is asked by
    that: what a response says may depend on what it follows.
    """

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

    def __call__(
        self,
        given: Sequence[Any],
        live: Bool[Array, "R"],
        ids: Int[Array, "R"],
        prompts: Int[Array, "R P"],
        starts: Int[Array, "R"],
        tokens: Int[Array, "R L"],
        lengths: Int[Array, "R"],
    ) -> np.ndarray:
        """f32[R]; NaN where a text is not live or got no reward."""
        rewards = np.full(np.shape(live), np.nan, np.float32)
        rows = np.flatnonzero(np.asarray(live))
        if not rows.size:
            return rewards
        with self.lock:
            both = zip(_cut(prompts, starts, rows), _cut(tokens, lengths, rows), strict=True)
            asked, texts = zip(*(self._decoded(*ids) for ids in both), strict=True)
            columns = [np.asarray(ids)[rows].tolist(), list(asked), list(texts)][-self.texts :]
            self.log.asked += len(texts)
            self.log.rounds += 1
            found = self._rewards([np.asarray(value) for value in given], columns)
            for row, prompt, text, reward in zip(rows, asked, texts, found, strict=True):
                error = _wrong(reward)
                if error is None:
                    rewards[row] = reward
                    continue
                if not self.log.failed:
                    warnings.warn(
                        f"the judge failed on {text[:60]!r} ({error}); the response counts as "
                        "invalid, and so will others, which the judge's `log` keeps",
                        stacklevel=2,
                    )
                self.log.failed += 1
                if len(self.log.failures) < KEPT:
                    self.log.failures.append(Failure(prompt, text, error))
        return rewards

    def _decoded(self, prompt: list[int], response: list[int]) -> tuple[Any, Any]:
        """Both as text, the prompt where it is asked for."""
        pair = getattr(self.tokenizer, "decode_pair", None)
        if pair is not None:
            return pair(prompt, response)
        asked = self.tokenizer.decode(prompt) if self.texts > 1 else ""
        return asked, self.tokenizer.decode(response)

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


def _cut(tokens: Any, lengths: Any, rows: Any) -> list[list[int]]:
    """The ids of some rows, each as long as it is."""
    tokens, lengths = np.asarray(tokens), np.asarray(lengths)
    return [tokens[row, : lengths[row]].tolist() for row in rows]


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


def arity(function: Callable[..., Any], given: int) -> int:
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
