"""Passages of held-out standard-library source: what comes before, and how it really goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.inputs.sources import Codec
from experiments.tasks.stdlib import StandardLibrary
from experiments.tasks.task import Split
from jaxdecode.prompt import Prompt


@dataclass(frozen=True)
class Passages:
    """N passages cut anywhere from files that no model was trained on.

    Attributes:
      before: i32[N, P], a begin token and the text.
      after: i32[N, L], its true continuation.
    """

    before: NDArray[np.int32]
    after: NDArray[np.int32]

    @classmethod
    def of(
        cls, codec: Codec, split: Split, count: int, prefix: int, length: int, seed: int
    ) -> Passages:
        """`prefix` tokens, the begin token included where there is one, and the `length` that
        follow."""
        begin = codec.prompt("")[:1]
        given = prefix - len(begin)
        texts = StandardLibrary().texts(split)
        tokens = np.concatenate([[*codec.piece(t), codec.text.eos[0]] for t in texts])
        rng = np.random.default_rng((seed, len(split)))
        starts = rng.choice(len(tokens) - prefix - length, count, replace=False)
        text = tokens[starts[:, None] + np.arange(given + length)].astype(np.int32)
        begins = np.broadcast_to(np.asarray(begin, np.int32), (count, len(begin)))
        return cls(np.concatenate([begins, text[:, :given]], axis=1), text[:, given:])

    def batches(self, size: int) -> list[Prompt]:
        """All in batches of one shape; the last is filled up by copies."""
        found = []
        for first in range(0, len(self.before), size):
            rows = np.minimum(np.arange(first, first + size), len(self.before) - 1)
            ids = rows.tolist()
            found.append(Prompt.of(self.before[rows].tolist(), ids, self.before.shape[1]))
        return found


def similarity(texts: NDArray[np.int32], lengths: NDArray[np.int32], truth: NDArray[np.int32]):
    """1 - edit distance / the longer length, f64[...], of token rows [..., L] to truth [..., L].

    The truth is as long as it is; a row ends at its length.
    """
    shape, room = lengths.shape, truth.shape[-1]
    texts, lengths = texts.reshape(-1, texts.shape[-1]), lengths.reshape(-1)
    truth = truth.reshape(-1, room)
    row = np.broadcast_to(np.arange(room + 1), (len(texts), room + 1)).astype(float)
    found = np.full(len(texts), float(room))
    for i in range(texts.shape[1]):
        below = np.empty_like(row)
        below[:, 0] = i + 1
        for j in range(room):
            swap = row[:, j] + (texts[:, i] != truth[:, j])
            below[:, j + 1] = np.minimum(swap, np.minimum(row[:, j + 1], below[:, j]) + 1)
        row = below
        found = np.where(lengths == i + 1, row[:, -1], found)
    return (1.0 - found / np.maximum(lengths, room)).reshape(shape)


def distinct(rows: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams of a list over the tokens it generated."""
    grams = {tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)}
    return len(grams) / max(sum(map(len, rows)), 1)
