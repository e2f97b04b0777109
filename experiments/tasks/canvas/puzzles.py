"""Latin squares and sudoku of order 4: many answers, and one.

    prompt   latin_square H 4 C A :          prompt   sudoku 0 0 4 2 2 0 3 1 4 0 2 3 3 2 1 4 :
    target   H 4 A C 4 C H A ...             target   1 3 4 2 2 4 3 1 4 1 2 3 3 2 1 4

Cells are written row by row. Any square over the symbols that has each of them once in every row
and column answers the first; of the second there is one answer, since clues are left out only as
far as it stays the only one. Source: ParallelBench, arXiv 2510.04767; its published squares are
cyclic ones with rows and columns in random order, `law="cyclic"`, of which there are 432 of 576.
"""

from __future__ import annotations

import functools
import itertools
import string
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from experiments.tasks import tokenizer
from experiments.tasks.task import Example, Split, check_split, split_of

SIZE = 4
LATIN, SUDOKU, END, BLANK = "latin_square", "sudoku", ":", "0"
SYMBOLS = (*string.ascii_uppercase, *string.digits)


@dataclass(frozen=True)
class LatinSquares:
    """Squares over four symbols that the prompt names.

    Attributes:
      law: of the target, "uniform" over all 576 squares or "cyclic" as published.
    """

    law: Literal["uniform", "cyclic"] = "uniform"

    def __post_init__(self) -> None:
        if self.law not in ("uniform", "cyclic"):
            raise ValueError(f"law is {self.law!r}: pass 'uniform' or 'cyclic'")

    @property
    def name(self) -> str:
        return LATIN

    def words(self) -> tuple[str, ...]:
        return (LATIN, END, *SYMBOLS)

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.words(self.words())

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        check_split(split)
        examples = []
        while len(examples) < count:
            symbols = [SYMBOLS[i] for i in rng.permutation(len(SYMBOLS))[:SIZE]]
            prompt = " ".join([LATIN, *symbols, END])
            if split_of(prompt) == split:
                square = self._square(rng).ravel()
                target = " ".join(symbols[cell] for cell in square)
                examples.append(Example(prompt, target, {"law": self.law}))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """1 for any Latin square over the prompt's symbols, and nothing after it."""
        return float(is_latin(completion.split(), prompt.split()[1:-1]))

    def extract(self, completion: str) -> str | None:
        cells = completion.split()
        return " ".join(cells) if len(cells) == SIZE**2 else None

    def _square(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.law == "uniform":
            squares = latin_squares()
            return squares[int(rng.integers(len(squares)))]
        order = np.arange(SIZE)
        cyclic = (order[:, None] + order) % SIZE
        return rng.permutation(SIZE)[cyclic[rng.permutation(SIZE)][:, rng.permutation(SIZE)]]


@dataclass(frozen=True)
class Sudoku:
    """Grids of 4 x 4 with `clues` cells given and the others to be found."""

    clues: int = 12

    def __post_init__(self) -> None:
        if not 4 <= self.clues < SIZE**2:
            raise ValueError(f"clues is {self.clues}: pass 4 to {SIZE**2 - 1}")

    @property
    def name(self) -> str:
        return SUDOKU

    def words(self) -> tuple[str, ...]:
        return (SUDOKU, END, *string.digits)

    def tokenizer(self) -> tokenizer.TaskTokenizer:
        return tokenizer.words(self.words())

    def sample(self, rng: np.random.Generator, count: int, split: Split) -> list[Example]:
        """``meta``: ``answer``."""
        check_split(split)
        grids, examples = sudoku_grids(), []
        while len(examples) < count:
            grid = grids[int(rng.integers(len(grids)))]
            blank = rng.permutation(SIZE**2)[: SIZE**2 - self.clues]
            shown = grid.copy()
            shown[blank] = 0
            prompt = " ".join([SUDOKU, *map(str, shown.tolist()), END])
            if len(solutions(shown)) == 1 and split_of(prompt) == split:
                target = " ".join(map(str, grid.tolist()))
                examples.append(Example(prompt, target, {"answer": target}))
        return examples

    def verify(self, prompt: str, completion: str) -> float:
        """1 for the solution, and nothing after it."""
        shown = np.array([int(cell) for cell in prompt.split()[1:-1]])
        (grid,) = solutions(shown)
        return float(completion.split() == list(map(str, grid.tolist())))

    def extract(self, completion: str) -> str | None:
        cells = completion.split()
        return " ".join(cells) if len(cells) == SIZE**2 else None


def is_latin(cells: list[str], symbols: list[str]) -> bool:
    """Whether the cells, row by row, have each symbol once in every row and column."""
    if len(cells) != len(symbols) ** 2:
        return False
    rows = [cells[i : i + len(symbols)] for i in range(0, len(cells), len(symbols))]
    return all(set(line) == set(symbols) for line in (*rows, *zip(*rows, strict=True)))


@functools.cache
def latin_squares() -> NDArray[np.int64]:
    """All 576 squares over 0..3, i64[576, 4, 4]."""
    found = []
    for rows in itertools.product(itertools.permutations(range(SIZE)), repeat=SIZE):
        if all(len(set(column)) == SIZE for column in zip(*rows, strict=True)):
            found.append(rows)
    return np.array(found)


@functools.cache
def sudoku_grids() -> NDArray[np.int64]:
    """All 288 grids over 1..4, row by row, i64[288, 16]."""
    squares = latin_squares()
    boxes = squares.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, SIZE, SIZE)
    whole = (np.sort(boxes, axis=2) == np.arange(SIZE)).all(axis=(1, 2))
    return squares[whole].reshape(-1, SIZE**2) + 1


def solutions(shown: NDArray[np.int64]) -> NDArray[np.int64]:
    """The grids that agree with the cells shown, 0 standing for a blank: i64[N, 16]."""
    grids = sudoku_grids()
    return grids[((grids == shown) | (shown == 0)).all(axis=1)]
