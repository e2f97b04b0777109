"""Batches for a denoiser: question and answer on a canvas, filled to its end with end tokens.

    <bos> prompt answer <eos> <eos> ... | <pad> ...

The canvas after the prompt is of one of a few sizes, or holds the answer exactly and then has no
end token: a denoiser sees how long its canvas is, and learns to fill each. Noise is data too: the
level of every row, low in variance over the batch, and one uniform draw for every position, so
that a batch is the same whenever its step comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.tasks.task import Split, Task
from experiments.tasks.tokenizer import TaskTokenizer
from jaxdecode.train.masked import Spread, levels

EXACT = 0


@dataclass(frozen=True)
class Canvases:
    """step -> arguments of `jaxdecode.train.masked.masked_tokens`.

    Attributes:
      sizes: canvas -> share of the rows; EXACT is the answer's own length. A row whose answer
        and end token do not fit takes the next larger one.
      pool: steps that share one draw, sorted by length, so that a batch holds like rows.
      spread: how the levels of a batch lie, see `jaxdecode.train.masked.levels`.
    """

    task: Task
    codec: TaskTokenizer
    rows: int
    widths: tuple[int, ...]
    seed: int
    split: Split = "train"
    sizes: tuple[tuple[int, float], ...] = ((EXACT, 0.4), (16, 0.5), (32, 0.1))
    pool: int = 16
    spread: Spread = "shifted"
    _drawn: dict[int, list[list[tuple[list[int], int]]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, step: int) -> Mapping[str, Any]:
        draw, place = divmod(step, self.pool)
        if draw not in self._drawn:
            self._drawn.clear()
            self._drawn[draw] = self._draw(draw)
        rng = np.random.default_rng((self.seed, step, 1))
        rows = self._drawn[draw][place]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        length = np.array([len(row) for row, _ in rows], np.int32)
        width = min((width for width in self.widths if width >= length.max()), default=None)
        if width is None:
            raise ValueError(f"widths {self.widths}: a row needs {length.max()} tokens")
        tokens = np.full((len(rows), width), self.codec.pad_id, np.int32)
        answer = np.zeros(tokens.shape, bool)
        for number, (row, first) in enumerate(rows):
            tokens[number, : len(row)] = row
            answer[number, first : len(row)] = True
        return {
            "tokens": tokens,
            "answer": answer,
            "length": length,
            "level": levels(rng, len(rows), self.spread),
            "noise": rng.random(tokens.shape, np.float32),
        }

    def _draw(self, draw: int) -> list[list[tuple[list[int], int]]]:
        """Rows of ids, each with where its canvas begins."""
        rng = np.random.default_rng((self.seed, draw))
        examples = self.task.sample(rng, self.pool * self.rows, self.split)
        prompts = self.codec.encode_many([example.prompt for example in examples])
        answers = self.codec.encode_many([example.target for example in examples])
        names, shares = zip(*self.sizes, strict=True)
        wanted = rng.choice(names, len(examples), p=np.array(shares) / sum(shares))
        rows = []
        for prompt, answer, size in zip(prompts, answers, wanted.tolist(), strict=True):
            begun = [self.codec.bos_id, *prompt]
            canvas = self._canvas(len(answer), size)
            filled = [*answer, *[self.codec.eos_id] * (canvas - len(answer))]
            rows.append(([*begun, *filled], len(begun)))
        rows.sort(key=lambda row: len(row[0]))
        return [
            rows[place * self.rows : (place + 1) * self.rows]
            for place in rng.permutation(self.pool)
        ]

    def _canvas(self, answer: int, size: int) -> int:
        if size == EXACT:
            return answer
        room = [known for known, _ in self.sizes if known > answer and known >= size]
        if not room:
            raise ValueError(f"sizes {self.sizes}: an answer needs more than {answer} places")
        return min(room)


def prompts_of(
    codec: TaskTokenizer, prompts: list[str]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Begin token and prompt, i32[B, P] filled up with pads, and their lengths."""
    rows = [[codec.bos_id, *ids] for ids in codec.encode_many(prompts)]
    length = np.array([len(row) for row in rows], np.int32)
    tokens = np.full((len(rows), int(length.max())), codec.pad_id, np.int32)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = row
    return tokens, length
