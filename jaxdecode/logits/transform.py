"""The contract of a logits transform, the one that does nothing, and the chain of several."""

from __future__ import annotations

import functools
import math
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.prompt import Prompt
from jaxdecode.ranges import as_float, in_32_bits
from jaxdecode.types import Array, Bool, Float, Int


@runtime_checkable
class LogitsTransform(Protocol):
    """Edits the logits of R rows before a token is drawn from them.

    `init` reads the prompts, `apply` edits, `observe` reads the tokens that were drawn.
    `apply` changes no state, so that a verifier may evaluate it at many nodes of a tree.
    A state is a pytree whose every leaf leads with R: rows are gathered and forked with
    `tree.map`. Logits of -inf are tokens already excluded and stay excluded, save for
    `ForcedTokens`; rows with NaN stay unusable.

    Attributes:
      rises: whether log-probabilities may come out above 0; see `rises`.
    """

    def init(self, prompt: Prompt) -> Any: ...

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]: ...

    def observe(self, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
        """Take note of `token` on the active rows; what stands on the others is ignored."""
        ...


def rises(transform: Any) -> bool | Bool[Array, ""]:
    """Whether a transform may make log-probabilities larger than 0, so that a sum of them can
    grow with a text. One that does not say is not trusted."""
    return getattr(transform, "rises", True)


@runtime_checkable
class Hearing(LogitsTransform, Protocol):
    """A transform that remembers how probable what was drawn had been.

    `hear` takes the place of `observe`, which refuses to be called.
    """

    def hear(
        self,
        state: Any,
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> Any:
        """Take note of `token`, which was drawn after `apply` edited these `logits`."""
        ...


def hears(transform: LogitsTransform) -> bool:
    """Whether a transform asks for the logits that a token was drawn from."""
    if isinstance(transform, Chain):
        return any(map(hears, transform.transforms))
    return hasattr(transform, "hear")


def deaf(transform: LogitsTransform) -> LogitsTransform:
    """What is left of a transform for a drafter, which cannot tell how probable a token was.

    Drafts from any law leave the output's law as it is."""
    if isinstance(transform, Chain):
        return chain(*(part for part in map(deaf, transform.transforms) if part != Identity()))
    return Identity() if hears(transform) else transform


def noted(
    transform: LogitsTransform,
    state: Any,
    logits: Float[Array, "R V"],
    token: Int[Array, "R"],
    active: Bool[Array, "R"],
) -> Any:
    """The state after `token`, drawn from what `transform` made of `logits`, on active rows."""
    if hears(transform):
        return cast(Hearing, transform).hear(state, logits, token, active)
    return transform.observe(state, token, active)


def no_state(self: Any, prompt: Prompt) -> tuple[Any, ...]:
    """The `init` of a transform that remembers nothing."""
    return ()


def unchanged(self: Any, state: Any, token: Int[Array, "R"], active: Bool[Array, "R"]) -> Any:
    """The `observe` of a transform that remembers nothing, or only the prompt."""
    return state


@struct.dataclass
class Identity:
    """Leaves the logits as they are."""

    rises = False
    init = no_state
    observe = unchanged

    def apply(self, state: Any, logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        return logits


@struct.dataclass
class Chain:
    """Applies transforms from left to right; the state is the tuple of their states."""

    transforms: tuple[LogitsTransform, ...]

    @property
    def rises(self) -> bool | Bool[Array, ""]:
        """Whether one of them may make log-probabilities larger than 0."""
        return functools.reduce(jnp.logical_or, map(rises, self.transforms), False)

    def init(self, prompt: Prompt) -> tuple[Any, ...]:
        return tuple(transform.init(prompt) for transform in self.transforms)

    def apply(self, state: tuple[Any, ...], logits: Float[Array, "R V"]) -> Float[Array, "R V"]:
        for transform, own in zip(self.transforms, state, strict=True):
            logits = transform.apply(own, logits)
        return logits

    def observe(
        self, state: tuple[Any, ...], token: Int[Array, "R"], active: Bool[Array, "R"]
    ) -> tuple[Any, ...]:
        pairs = zip(self.transforms, state, strict=True)
        return tuple(transform.observe(own, token, active) for transform, own in pairs)

    def hear(
        self,
        state: tuple[Any, ...],
        logits: Float[Array, "R V"],
        token: Int[Array, "R"],
        active: Bool[Array, "R"],
    ) -> tuple[Any, ...]:
        """Each transform hears what it was handed, not what the model said."""
        last = max((i for i, part in enumerate(self.transforms) if hears(part)), default=-1)
        states = []
        for index, (transform, own) in enumerate(zip(self.transforms, state, strict=True)):
            states.append(noted(transform, own, logits, token, active))
            if index < last:
                logits = transform.apply(own, logits)
        return tuple(states)


def chain(*transforms: LogitsTransform) -> LogitsTransform:
    """Transforms one after the other, the first one first.

    The customary order is constraints and penalties, temperature, then filters: a temperature
    before a filter changes what the filter keeps.
    """
    if len(transforms) == 1:
        return transforms[0]
    return Chain(transforms) if transforms else Identity()


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    fix: str = "",
) -> None:
    """Refuse a number that is not finite, below `low` (or equal to it, if `above`) or past `high`.

    Only a number that can be read is checked: a traced value, or a stand-in that a tree
    transformation put in its place, passes.
    """
    if isinstance(value, Tracer) or not isinstance(value, int | float | np.generic | jax.Array):
        return
    if np.ndim(value) > 0:
        return
    number = in_32_bits(value)
    least = low < number if above else low <= number
    if not (least and number <= high and math.isfinite(number)):
        bounds = f"{'>' if above else '>='} {low:g}"
        bounds += f" and <= {high:g}" if high < math.inf else ""
        bounds += "" if number == as_float(value) else f" (in 32 bits it is {number:g})"
        raise ValueError(f"{name}={str(value)[:60]} must be finite and {bounds}{fix}")
