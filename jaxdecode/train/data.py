"""Data for `fit`: an order of one's own, or a stream that knows where it is.

`fit` asks for the batch of a step. Where that is a function of the step there is nothing to
save, and `Order` says which rows it takes; so is a `grain.MapDataset`:

    batches = grain.MapDataset.source(texts).shuffle(0).repeat().batch(8).__getitem__

A stream, such as grain's iterators with their worker processes and readers of files, goes one way
and is resumed by a position that is saved with each checkpoint:

    batches = Stream(iter(dataset.to_iter_dataset().mp_prefetch(options)))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxdecode.types import Int


@dataclass(frozen=True)
class Order:
    """Which rows a step takes: all of them in turn, in an order shuffled anew every epoch.

    What is left over of an epoch, if `count` is no multiple of `batch`, is left out of it.
    """

    count: int
    batch: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.count:
            raise ValueError(
                f"batch={self.batch} rows of count={self.count}: at least one and at most all"
            )

    def __call__(self, step: int) -> Int[np.ndarray, "batch"]:
        epoch, place = divmod(step, self.count // self.batch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        return order[place * self.batch : (place + 1) * self.batch]


@runtime_checkable
class Positioned(Protocol):
    """Batches that come one after another; the position is JSON's."""

    def __call__(self, step: int) -> Mapping[str, Any]: ...

    def position(self) -> Any:
        """Where the stream stands, as JSON."""
        ...

    def restore(self, position: Any) -> None: ...


@runtime_checkable
class Resumable(Protocol):
    """An iterator that can be taken up elsewhere, as those of `grain` can."""

    def __next__(self) -> Any: ...

    def get_state(self) -> Any:
        """Where the iterator stands, as its library writes it."""
        ...

    def set_state(self, state: Any) -> None:
        """Go on from where `get_state` was asked."""
        ...


class Stream:
    """The batches of a resumable iterator, a mapping each, as `fit` asks for them.

    In a run of several processes each reads a part of its own and has its own position.
    """

    def __init__(self, iterator: Resumable) -> None:
        self.iterator = iterator

    def __call__(self, step: int) -> Mapping[str, Any]:
        """The next batch.

        Raises:
          ValueError: there is none.
        """
        try:
            return next(self.iterator)
        except StopIteration:
            raise ValueError(
                f"the data end before step {step + 1}; repeat them or ask for {step} steps"
            ) from None

    def position(self) -> Any:
        state = self.iterator.get_state()
        return {"bytes": state.decode()} if isinstance(state, bytes) else {"state": state}

    def restore(self, position: Any) -> None:
        text = position.get("bytes")
        self.iterator.set_state(position["state"] if text is None else text.encode())
