"""What ends a row: a set of end tokens, and stop sequences of several tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode import struct
from jaxdecode.ranges import integers
from jaxdecode.types import Array, Bool, Int


@runtime_checkable
class StopRule(Protocol):
    """Says which rows end with their newest token; see `Stop`."""

    @property
    def eos(self) -> Int[Array, "E"]:
        """i32[E], the tokens that end a response."""
        ...

    def __call__(self, tokens: Int[Array, "R L"], length: Int[Array, "R"]) -> Bool[Array, "R"]: ...


@struct.dataclass
class Stop:
    """Ends a row whose newest token is in `eos` or whose tail spells a stop sequence.

    Only emitted tokens count: an end token in the prompt ends nothing, and a sequence cannot
    begin in the prompt. What ended the row is kept in the output.

    Attributes:
      eos: i32[E], end tokens; E may be 0.
      sequences: i32[Q, W], stop sequences, padded on the left with -1; Q may be 0.
    """

    eos: Int[Array, "E"]
    sequences: Int[Array, "Q W"]

    @classmethod
    def of(
        cls, eos: int | np.integer | Sequence[int] = (), sequences: Sequence[Sequence[int]] = ()
    ) -> Stop:
        """From end ids (one or several) and stop sequences as lists of ids."""
        eos = [int(eos)] if isinstance(eos, int | np.integer) else list(eos)
        for index, sequence in enumerate(sequences):
            if len(sequence) == 0:
                raise ValueError(
                    f"sequences[{index}] is empty and would stop every row at once; leave it out"
                )
        if any(
            isinstance(token, int | np.integer) and token < 0
            for token in [*eos, *(t for s in sequences for t in s)]
        ):
            raise ValueError(
                f"eos={eos} or sequences={sequences} has a negative id; leave unset ids out"
            )
        width = max((len(sequence) for sequence in sequences), default=0)
        eos = integers("eos", eos)
        padded = np.full((len(sequences), width), -1, np.int32)
        for row, sequence in enumerate(sequences):
            padded[row, width - len(sequence) :] = integers(f"sequences[{row}]", sequence)
        return cls(*(jax.device_put(array) for array in (np.array(eos, np.int32), padded)))

    def __call__(self, tokens: Int[Array, "R L"], length: Int[Array, "R"]) -> Bool[Array, "R"]:
        """Whether the row ends with its newest token, tokens[length - 1]."""
        newest = jnp.take_along_axis(tokens, jnp.maximum(length - 1, 0)[:, None], axis=1)
        ends = jnp.any(newest == self.eos, axis=1)
        count, width = self.sequences.shape
        if count:
            index = length[:, None] - width + jnp.arange(width)
            tail = jnp.take_along_axis(tokens, jnp.clip(index, 0), axis=1)
            tail = jnp.where(index >= 0, tail, -2)  # matches nothing, not even the padding
            free = self.sequences < 0
            match = jnp.all(free | (tail[:, None, :] == self.sequences), axis=2)
            ends |= jnp.any(match, axis=1)
        return ends & (length > 0)
