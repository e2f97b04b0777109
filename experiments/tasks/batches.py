"""Fixed-shape numpy batches for language-model and reward training, resumable at any step.

The batch of a step is a pure function of (seed, step): a stream has no position to save, and a
run that resumes at step s sees exactly what it would have seen. Rows read

    <bos> prompt completion <eos> <pad> ...

and every stream can bound its shapes to a few widths, so that a jitted step compiles once a width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from experiments.tasks.task import Split, Task
from experiments.tasks.tokenizer import TaskTokenizer

LossOn = Literal["completion", "all"]
T = TypeVar("T")


class Batch(NamedTuple):
    """tokens i32[B,T]; loss_mask bool[B,T]; length i32[B].

    ``loss_mask[b, t]`` says that ``tokens[b, t]`` is to be predicted from the tokens before it:
    the completion and its end token, or with "all" everything after the begin token. Padding and
    the begin token are never predicted. ``length`` counts a row's tokens, ends included.
    """

    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    length: NDArray[np.int32]

    def rows(self, chosen: slice) -> "Batch":
        """The batch of some of the rows, at the same width."""
        return Batch(self.tokens[chosen], self.loss_mask[chosen], self.length[chosen])


def pack(
    codec: TaskTokenizer,
    pairs: Sequence[tuple[str, str]],
    widths: Sequence[int],
    loss_on: LossOn = "completion",
) -> Batch:
    """One row for each (prompt, completion), T the smallest of ``widths`` that holds them all."""
    prompts = codec.encode_many([prompt for prompt, _ in pairs])
    completions = codec.encode_many([completion for _, completion in pairs])
    length = np.array(
        [len(p) + len(c) + 2 for p, c in zip(prompts, completions, strict=True)], np.int32
    )
    need = int(length.max(initial=0))
    width = min((width for width in widths if width >= need), default=None)
    if width is None:
        raise ValueError(f"widths {tuple(widths)}: a row needs {need} tokens; add a width for it")
    tokens = np.full((len(pairs), width), codec.pad_id, np.int32)
    first = np.ones(len(pairs), np.int32)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        tokens[row, : length[row]] = [codec.bos_id, *prompt, *completion, codec.eos_id]
        if loss_on == "completion":
            first[row] += len(prompt)
    position = np.arange(width)
    loss_mask = (position >= first[:, None]) & (position < length[:, None])
    return Batch(tokens, loss_mask, length)


@dataclass(frozen=True)
class ExampleBatches:
    """Batches of fresh examples from a task: the stream's ``step`` -> Batch.

    ``pool`` consecutive steps share one draw of ``pool * rows`` examples sorted by length, so a
    batch holds rows of like length; the order of a pool's batches is shuffled.
    """

    task: Task
    codec: TaskTokenizer
    rows: int
    widths: tuple[int, ...]
    seed: int
    split: Split = "train"
    loss_on: LossOn = "completion"
    pool: int = 1
    # The last pool drawn, kept because its steps come one after another.
    _drawn: dict[int, list[list[tuple[str, str]]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, step: int) -> Batch:
        return pack(self.codec, self.pairs(step), self.widths, self.loss_on)

    def pairs(self, step: int) -> list[tuple[str, str]]:
        """The (prompt, target) pairs of a step, as text."""
        draw, place = divmod(step, self.pool)
        if draw not in self._drawn:
            self._drawn.clear()
            self._drawn[draw] = self._draw(draw)
        return self._drawn[draw][place]

    def _draw(self, draw: int) -> list[list[tuple[str, str]]]:
        rng = np.random.default_rng((self.seed, draw))
        examples = self.task.sample(rng, self.pool * self.rows, self.split)
        pairs = [(example.prompt, example.target) for example in examples]
        pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        return [
            pairs[place * self.rows : (place + 1) * self.rows]
            for place in rng.permutation(self.pool)
        ]


@dataclass(frozen=True)
class PreferenceBatches:
    """Batches of preference pairs: ``step`` -> (chosen, rejected), both [rows, T], T shared.

    ``draw(rng, rows)`` gives (prompt, chosen, rejected) triples.
    """

    draw: Callable[[np.random.Generator, int], Sequence[tuple[str, str, str]]]
    codec: TaskTokenizer
    rows: int
    widths: tuple[int, ...]
    seed: int

    def __call__(self, step: int) -> tuple[Batch, Batch]:
        triples = self.draw(np.random.default_rng((self.seed, step)), self.rows)
        chosen = [(prompt, good) for prompt, good, _ in triples]
        rejected = [(prompt, bad) for prompt, _, bad in triples]
        both = pack(self.codec, chosen + rejected, self.widths)
        return both.rows(slice(len(chosen))), both.rows(slice(len(chosen), None))


@dataclass(frozen=True)
class WindowBatches:
    """Batches of a corpus: a begin token, then ``width - 1`` tokens cut from one long array.

    ``tokens`` i32[N] holds documents one after another, each closed by the end token. A share
    ``opening`` of the rows starts where a document does, the others anywhere. A row's first token
    is predicted only where a document opens: elsewhere nothing tells what it is.
    """

    tokens: NDArray[np.int32]
    codec: TaskTokenizer
    rows: int
    width: int
    seed: int
    opening: float = 0.125
    _openings: NDArray[np.intp] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        last = len(self.tokens) - (self.width - 1)
        if self.width < 2 or last < 0:
            raise ValueError(
                f"width is {self.width} and the corpus has {len(self.tokens)} tokens: pass a "
                f"width from 2 to {len(self.tokens) + 1}"
            )
        ends = np.flatnonzero(self.tokens == self.codec.eos_id)
        openings = np.concatenate([[0], ends + 1])
        object.__setattr__(self, "_openings", openings[openings <= last])

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        start = rng.integers(len(self.tokens) - self.width + 2, size=self.rows)
        opens = rng.random(self.rows) < self.opening
        start = np.where(opens, rng.choice(self._openings, self.rows), start)
        tokens = np.full((self.rows, self.width), self.codec.bos_id, np.int32)
        tokens[:, 1:] = self.tokens[start[:, None] + np.arange(self.width - 1)]
        loss_mask = np.ones(tokens.shape, bool)
        loss_mask[:, 0] = False
        loss_mask[:, 1] = np.isin(start, self._openings)
        return Batch(tokens, loss_mask, np.full(self.rows, self.width, np.int32))


def stream(batches: Callable[[int], T], start: int = 0) -> Iterator[T]:
    """``batches(start), batches(start + 1), ...`` without end."""
    step = start
    while True:
        yield batches(step)
        step += 1
