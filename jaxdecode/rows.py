"""Rows of tokens under way, and the contract of whatever runs them on.

A `Rows` value is everything the next step needs, so a caller may run it to a bound, look,
gather or fork its rows, and run it on: populations are staged and texts are streamed that
way. The invariant is that of every cached engine: `cache.length` is one less than the tokens
seen, the newest of which, the root, has not been run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.cache import Cache
from jaxdecode.denoiser import Denoiser, check_masks
from jaxdecode.lm import LanguageModel
from jaxdecode.prompt import Prompt, check_prompt
from jaxdecode.result import Status, Usage
from jaxdecode.types import Array, Bool, Float, Int, Key


@struct.dataclass
class Rows:
    """R rows under way; every leaf leads with R (the cache's arrays carry it second).

    `speculation` is what a speculating expander remembers of them.
    """

    tokens: Int[Array, "R L"]
    length: Int[Array, "R"]
    status: Int[Array, "R"]
    logprob: Float[Array, "R"]
    root: Int[Array, "R"]
    prompt_length: Int[Array, "R"]
    key: Key[Array, "R"]
    cache: Cache
    transform: Any
    meter: Any
    usage: Usage
    speculation: Any = ()

    @property
    def total(self) -> Int[Array, "R"]:
        """Prompt and emitted tokens."""
        return self.prompt_length + self.length

    @property
    def running(self) -> Bool[Array, "R"]:
        """bool[R], rows that have not ended."""
        return self.status == Status.RUNNING


def where_rows(condition: Bool[Array, "B"], yes: Any, no: Any) -> Any:
    """Row by row one of two trees, whose leaves lead with the rows."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no
    )


def run_until(
    rows: Rows, until: Int[Array, "R"], step: Callable[[Rows, Bool[Array, "R"]], Rows]
) -> Rows:
    """Rows that `step` runs on, given which of them take part, until each has ended or has
    `until` tokens, its prompt's included."""

    def active(rows: Rows) -> Bool[Array, "R"]:
        return rows.running & (rows.total < until)

    return jax.lax.while_loop(
        lambda rows: jnp.any(active(rows)), lambda rows: step(rows, active(rows)), rows
    )


@runtime_checkable
class Expander(Protocol):
    """What emits the tokens of rows: a `Generator`, or one that speculates.

    Attributes and methods are described at `Generator`.
    """

    @property
    def model(self) -> LanguageModel | Denoiser:
        """What writes."""
        ...

    @property
    def max_tokens(self) -> int:
        """L, the most tokens of a response."""
        ...

    @property
    def cache_growth(self) -> int:
        """How many sizes a cache runs through, the last one sufficient."""
        ...

    @property
    def depth(self) -> int: ...

    def start(
        self,
        key: Key[Array, ""],
        prompt: Prompt,
        samples: int,
        capacity: int,
        first: Int[Array, ""] | int = 0,
    ) -> Rows: ...

    def room(self, rows: Rows, capacity: int) -> Rows: ...

    def advance(self, rows: Rows, until: Int[Array, "R"]) -> Rows: ...


def check_start(expander: Expander, prompt: Prompt, capacity: int | None = None) -> None:
    """Refuse, on the host and before any compute, prompts from which no rows can be started.

    Args:
      capacity: the most prompt tokens that fit, where there is such a limit.
    Raises:
      ValueError: naming the row, the value and the fix.
    """
    model, new = expander.model, expander.max_tokens
    check_prompt(prompt, model.vocab_size, capacity)
    infill = bool(getattr(expander, "infill", False))
    if isinstance(model, Denoiser):
        check_masks(model, prompt, new if infill else None)
    new = 0 if infill else new  # a canvas that is filled in grows by nothing
    if model.max_positions is None or isinstance(prompt.length, Tracer):
        return
    lengths = np.asarray(prompt.length)
    row = int(lengths.argmax())
    if lengths[row] + new > model.max_positions:
        raise ValueError(
            f"prompt.length[{row}]={lengths[row]} and max_tokens={new} exceed the model's "
            f"{model.max_positions} positions; shorten the prompt or lower max_tokens"
        )
