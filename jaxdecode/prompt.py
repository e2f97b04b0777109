"""Ragged batches of prompts, right-padded to a small set of widths.

A data set of a thousand lengths compiles a handful of programs when widths grow by half:
a thousand log-normal lengths (median 100, sigma 0.8, 8 to 1024) need 11 programs and 1.22x
the tokens, against 303 programs for exact lengths and 1.44x the tokens for powers of two.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.core import Tracer

from jaxdecode import struct
from jaxdecode.ranges import integers
from jaxdecode.types import Array, Int


@struct.dataclass
class Prompt:
    """B prompts.

    Attributes:
      tokens: i32[B, P], right-padded; what stands in the padding does not matter.
      length: i32[B], at least 1.
      id: i32[B], identity of each example. Random draws depend on it and never on the row's
        place in the batch.
    """

    tokens: Int[Array, "B P"]
    length: Int[Array, "B"]
    id: Int[Array, "B"]

    @property
    def batch(self) -> int:
        """B, rows."""
        return self.tokens.shape[0]

    @classmethod
    def of(
        cls,
        sequences: Sequence[Sequence[int]],
        ids: Sequence[int] | None = None,
        width: int | None = None,
    ) -> Prompt:
        """Batch token sequences; `width` defaults to the bucket of the longest."""
        if len(sequences) == 0:
            raise ValueError("sequences: no prompts given; pass at least one")
        lengths = [len(sequence) for sequence in sequences]
        if min(lengths) == 0:
            raise ValueError(
                f"sequences[{lengths.index(0)}] is empty: a prompt needs at least one token "
                "(a BOS token will do)"
            )
        width = bucket(max(lengths)) if width is None else width
        if max(lengths) > width:
            raise ValueError(
                f"width={width} is below the longest prompt of {max(lengths)} tokens; "
                f"pass width>={max(lengths)} or shorten the prompt"
            )
        tokens = np.zeros((len(sequences), width), np.int32)
        for row, sequence in enumerate(sequences):
            tokens[row, : len(sequence)] = integers(f"sequences[{row}]", sequence)
        ids = range(len(sequences)) if ids is None else ids
        if len(ids) != len(sequences):
            raise ValueError(
                f"ids: {len(ids)} given for {len(sequences)} sequences; pass one for each"
            )
        numbers = (np.array(values, np.int32) for values in (lengths, integers("ids", ids)))
        # Put there as they are: a conversion would be a program for each shape.
        return cls(*(jax.device_put(array) for array in (tokens, *numbers)))


def bucket(length: int, smallest: int = 16) -> int:
    """The least width >= length of the series smallest * 1.5**i, in multiples of 8."""
    if smallest < 1:
        raise ValueError(f"smallest={smallest}: widths grow from at least 1")
    width = smallest
    while width < length:
        width = -(-int(width * 1.5) // 8) * 8
    return width


def check_prompt(prompt: Prompt, vocab_size: int, capacity: int | None = None) -> None:
    """Refuse, on the host and before any compute, what a model cannot run.

    Args:
      vocab_size: ids must lie in [0, vocab_size).
      capacity: the most prompt tokens that fit, where there is such a limit.
    Raises:
      ValueError: naming the row, the value and the fix.
    """
    if isinstance(prompt.tokens, Tracer):
        return
    tokens, lengths = np.asarray(prompt.tokens), np.asarray(prompt.length)
    width = tokens.shape[1]
    for row in np.flatnonzero((lengths < 1) | (lengths > width)):
        raise ValueError(
            f"prompt.length[{row}]={lengths[row]} must lie in 1..{width}; "
            "an empty prompt needs at least a BOS token"
        )
    real = np.arange(width) < lengths[:, None]
    bad = real & ((tokens < 0) | (tokens >= vocab_size))
    for row, column in np.argwhere(bad):
        raise ValueError(
            f"prompt.tokens[{row}, {column}]={tokens[row, column]} is outside the vocabulary "
            f"0..{vocab_size - 1}; does the tokenizer belong to this model?"
        )
    if capacity is not None and lengths.max() > capacity:
        row = int(lengths.argmax())
        raise ValueError(
            f"prompt.length[{row}]={lengths[row]} exceeds the {capacity} tokens that fit; "
            "shorten the prompt or raise the budget"
        )
