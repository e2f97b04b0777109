"""The contract of a decoding method, and `decode`, the one jitted way to run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from jaxdecode.prompt import Prompt, bucket
from jaxdecode.ranges import seeded
from jaxdecode.refill import Refillable, decode_refilled
from jaxdecode.result import Result
from jaxdecode.types import Array, Key


@runtime_checkable
class Decoder(Protocol):
    """A frozen pytree dataclass: models, heads and numbers are leaves, sizes are static.

    Calling it is pure and may be traced; `check` runs on the host before compute and raises
    a ValueError for prompts that the decoder cannot take.
    """

    def __call__(self, key: Key[Array, ""], prompt: Prompt) -> Result: ...

    def check(self, prompt: Prompt) -> None:
        """Raise ValueError for prompts that the decoder cannot start from."""
        ...


@jax.jit
def _run(decoder: Decoder, key: Key[Array, ""], prompt: Prompt) -> Result:
    return decoder(key, prompt)


def decode(decoder: Decoder, key: Key[Array, ""] | int, prompt: Prompt) -> Result:
    """Check the prompts, then run the decoder as one compiled program.

    Compiles once per decoder structure and shape of `prompt`; a new seed, a new temperature
    or new weights compile nothing.

    Args:
      key: a typed PRNG key or an integer seed.
    Raises:
      ValueError: for prompts that the decoder refuses, before any compute.
    """
    decoder.check(prompt)
    return _run(decoder, seeded(key), prompt)


def decode_all(
    decoder: Decoder,
    key: Key[Array, ""] | int,
    prompts: Sequence[Sequence[int]],
    batch: int,
    ids: Sequence[int] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Decode a data set of ragged prompts, yielding (index, one-row result) as they finish.

    Prompts of like length share a batch and a compiled program, so that the order is by
    length. A row's tokens do not depend on the others, hence not on this order. Where a decoder
    lets it (`Refillable`) and there are more prompts than rows, those that have ended make room
    for others; else they wait for the longest of a batch, the last of which is filled up with
    copies that are not returned.

    Args:
      batch: rows of a batch.
      ids: identity of each prompt for its random draws; default its index.
    Raises:
      ValueError: at once, before the first result is asked for; only what the decoder itself
        refuses is refused when its batch comes up.
    """
    if batch < 1:
        raise ValueError(f"batch={batch}: at least one row is needed")
    ids = range(len(prompts)) if ids is None else ids
    if len(ids) != len(prompts):
        raise ValueError(f"ids: {len(ids)} given for {len(prompts)} prompts; pass one for each")
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(
                f"prompts[{index}] is empty: a prompt needs at least one token "
                "(a BOS token will do)"
            )
    return _decode_all(decoder, seeded(key), prompts, batch, ids)


def _decode_all(
    decoder: Decoder,
    key: Key[Array, ""],
    prompts: Sequence[Sequence[int]],
    batch: int,
    ids: Sequence[int],
) -> Iterator[tuple[int, Result]]:
    widths = np.array([bucket(len(prompt)) for prompt in prompts], int)
    for width in np.unique(widths):
        members = np.flatnonzero(widths == width)
        if isinstance(decoder, Refillable) and len(members) > batch:
            texts, names = [prompts[int(i)] for i in members], [ids[int(i)] for i in members]
            for index, result in decode_refilled(decoder, key, batch, texts, names, int(width)):
                yield int(members[index]), result
            continue
        for first in range(0, len(members), batch):
            chosen = members[first : first + batch]
            filled = np.concatenate([chosen, np.repeat(chosen[-1:], batch - len(chosen))])
            block = Prompt.of([prompts[i] for i in filled], [ids[i] for i in filled], int(width))
            result = jax.device_get(decode(decoder, key, block))
            for row, index in enumerate(chosen):
                yield int(index), take(result, row)


Tree = TypeVar("Tree")


def take(tree: Tree, row: int) -> Tree:
    """Row `row` of a result or of any pytree whose leaves lead with B, still batched."""
    return jax.tree.map(lambda x: x[row : row + 1], tree)
