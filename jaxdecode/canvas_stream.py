"""Canvases as they fill: an unmasker's passes one by one, for someone who is watching.

The rows stay on the device and are donated from pass to pass. Watching changes no token: a pass is
the same program whether the loop around it is on the device or here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple, Protocol, cast, runtime_checkable

import jax
import numpy as np

from jaxdecode.autoregress import capacities, finish
from jaxdecode.prompt import Prompt
from jaxdecode.ranges import seeded
from jaxdecode.result import Result
from jaxdecode.rows import Expander, Rows, check_start
from jaxdecode.types import Array, Bool, Key


@runtime_checkable
class Passing(Expander, Protocol):
    """An expander whose rows hold canvases: an `Unmasker`, or one that makes its steps."""

    def run_pass(self, rows: Rows, active: Bool[Array, "R"]) -> Rows:
        """See `Unmasker.run_pass`."""
        ...


class View(NamedTuple):
    """B canvases of C places after a pass.

    Attributes:
      tokens: i32[B, C], prompt first; the mask where `open`.
      open: bool[B, C], places that are still to be filled.
      decided: i32[B, C], the pass, from 0, in which a place was filled; -1 for none.
      passes: i32[B], made so far.
      result: what decoding comes to; None before the last view.
    """

    tokens: np.ndarray
    open: np.ndarray
    decided: np.ndarray
    passes: np.ndarray
    result: Result | None


def views(unmasker: Expander, key: Key[Array, ""] | int, prompt: Prompt) -> Iterator[View]:
    """Decode every prompt once, yielding all canvases after each pass, the empty ones first.

    The tokens are those of `autoregress.generate` with the same key. Stop reading to stop decoding.

    Raises:
      ValueError: at the call, for a generator without a canvas, or prompts that cannot be run.
    """
    if not hasattr(unmasker, "run_pass"):
        raise ValueError(
            f"unmasker: a {type(unmasker).__name__} writes from left to right and has no canvas; "
            "use `jaxdecode.stream.stream`"
        )
    check_start(unmasker, prompt)
    return _views(cast(Passing, unmasker), seeded(key), prompt)


def _views(unmasker: Passing, key: Key[Array, ""], prompt: Prompt) -> Iterator[View]:
    rows = _start(unmasker, key, prompt, capacities(unmasker, prompt.tokens.shape[1])[-1])
    while True:
        more, seen = jax.device_get((rows.running.any(), _seen(rows)))
        if not more:
            yield seen._replace(result=jax.device_get(finish(unmasker, rows, rows.meter)))
            return
        yield seen
        rows = _run_pass(unmasker, rows)


def _seen(rows: Rows) -> View:
    canvas = rows.speculation
    return View(canvas.tokens, canvas.open, canvas.decided, canvas.passes, None)


@functools.partial(jax.jit, static_argnums=3)
def _start(unmasker: Passing, key: Key[Array, ""], prompt: Prompt, capacity: int) -> Rows:
    return unmasker.start(key, prompt, 1, capacity)


@functools.partial(jax.jit, donate_argnums=1)
def _run_pass(unmasker: Passing, rows: Rows) -> Rows:
    return unmasker.run_pass(rows, rows.running)
