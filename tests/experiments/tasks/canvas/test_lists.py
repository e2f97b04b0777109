"""The list operations, by the rows of the benchmark's table; puzzles, look-ups, sentences."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from algorithms.diffusion.parallelbench import law
from experiments.tasks.canvas.lists import (
    OPERATIONS,
    RANDOM,
    Lists,
    Question,
    answer,
    parse,
    right,
    show,
)
from experiments.tasks.canvas.lookups import Lookups
from experiments.tasks.canvas.puzzles import (
    LatinSquares,
    Sudoku,
    is_latin,
    latin_squares,
    sudoku_grids,
)
from experiments.tasks.canvas.sentences import LEXICON, Sentences, parses, placements
from experiments.tasks.task import SPLITS, split_of

TASKS = (Lists(), LatinSquares(), LatinSquares("cyclic"), Sudoku(), Lookups(), Sentences())
ABCD = ("A", "B", "C", "D")
JUDGED = [
    ("copy", "", -1, "A B C D", "A B D C"),
    ("reverse", "", -1, "D C B A", "A B C D"),
    ("sort", "", -1, "A B C D", "D C B A"),
    ("insert_index", "Q", 4, "A B C D Q", "A B C Q D"),
    ("remove_index", "", 0, "B C D", "A B C"),
    ("replace_index", "Q", 2, "A B Q D", "A Q C D"),
    ("insert_random", "Q", -1, "Q A B C D", "A B C D"),
    ("insert_random", "Q", -1, "A B C D Q", "A Q B C Q D"),
    ("insert_random", "Q", -1, "A Q B C D", "B Q A C D"),
    ("remove_random", "", -1, "A C D", "A D C"),
    ("remove_random", "", -1, "B C D", "A B C D"),
    ("remove_random", "", -1, "A B C", "A B"),
    ("replace_random", "Q", -1, "Q B C D", "A B C D"),
    ("replace_random", "Q", -1, "A B C Q", "A Q C Q"),
    ("replace_random", "Q", -1, "A Q C D", "A B Z D"),
    ("shuffle", "", -1, "B A C D", "A B C D"),
    ("shuffle", "", -1, "D C B A", "A A C D"),
]


@pytest.mark.parametrize(("operation", "word", "index", "good", "bad"), JUDGED)
def test_rules(operation, word, index, good, bad) -> None:
    question = Question(operation, ABCD, word, index)
    assert right(question, good.split())
    assert not right(question, bad.split())
    assert not right(question, []) and not right(question, [*good.split(), "A"])


@pytest.mark.parametrize("operation", RANDOM)
def test_the_right_answers_are_those_of_the_law(operation) -> None:
    """Every text of the law passes the rule and nothing else does; draws are uniform over it."""
    items, word = ("A", "B", "C"), "Q" if operation.startswith(("insert", "replace")) else ""
    question = Question(operation, items, word)
    support = law(operation, 3, identity=False).support
    texts = {tuple((*items, "Q")[token] for token in text) for text in support.tolist()}
    passing = {
        text
        for length in (2, 3, 4)
        for text in itertools.product((*items, "Q"), repeat=length)
        if right(question, text)
    }
    assert passing == texts
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(answer(rng, question)) for _ in range(600))
    assert set(drawn) == texts
    expected = 600 / len(texts)
    chi = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert chi < 20.5  # five degrees of freedom at most, 0.001


@pytest.mark.parametrize("task", TASKS, ids=lambda task: repr(task)[:20])
def test_samples_are_right_reproducible_and_kept_apart(task) -> None:
    codec, seen = task.tokenizer(), {}
    for split in SPLITS:
        examples = task.sample(np.random.default_rng(7), 60, split)
        assert examples == task.sample(np.random.default_rng(7), 60, split)
        for example in examples:
            assert split_of(example.prompt) == split
            assert task.verify(example.prompt, example.target) == 1
            assert task.verify(example.prompt, example.target + " " + example.target) == 0
            assert task.verify(example.prompt, "") == 0
            assert codec.decode(codec.encode(example.target)) == example.target
        seen[split] = {example.prompt for example in examples}
    assert not seen["train"] & seen["test"]
    with pytest.raises(ValueError, match="split"):
        task.sample(np.random.default_rng(0), 1, "dev")


@pytest.mark.parametrize("places", [0, 6])
def test_prompts_are_read_back(places: int) -> None:
    rng = np.random.default_rng(1)
    for example in Lists(places=places).sample(rng, 200, "train"):
        question = parse(example.prompt)
        assert show(question, places) == example.prompt
        assert question.operation == example.meta["operation"]
        assert len(question.items) == example.meta["length"]
    for text in ("copy", "copy A B", "insert_index Q | A B :", "stir A B :", "copy A | B :"):
        with pytest.raises(ValueError, match="prompt"):
            parse(text)


def test_what_lists_cannot_be() -> None:
    faults: list[dict[str, Any]] = [
        {"operations": ("stir",)},
        {"operations": ()},
        {"lengths": (3, 10)},
        {"symbols": 6},
        {"places": 5},
    ]
    for wrong in faults:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Lists(**wrong)
    assert set(OPERATIONS) > set(RANDOM)


def test_all_squares_and_grids() -> None:
    """576 Latin squares of order 4, of which 432 are cyclic; 288 sudoku grids."""
    squares = latin_squares()
    assert len(np.unique(squares.reshape(-1, 16), axis=0)) == 576
    assert all(is_latin([*map(str, s.ravel())], list("0123")) for s in squares[::37])
    grids = sudoku_grids()
    assert len(np.unique(grids, axis=0)) == 288
    for grid in grids[::29].reshape(-1, 4, 4):
        boxes = [grid[r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2)]
        assert all(len(np.unique(part)) == 4 for part in (*grid, *grid.T, *boxes))
    rng, cyclic = np.random.default_rng(0), LatinSquares("cyclic")
    examples = cyclic.sample(rng, 3000, "train")
    marks = set()
    for example in examples:
        symbols = example.prompt.split()[1:-1]
        marks.add(tuple(symbols.index(cell) for cell in example.target.split()))
    assert 400 < len(marks) <= 432
    assert not is_latin(list("0123" * 4), list("0123"))
    for wrong in (lambda: Sudoku(16), lambda: LatinSquares("klein")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"clues|law"):
            wrong()


def test_the_grammar_refuses() -> None:
    """Agreement of determiner and noun, of subject and verb; order; words that are none."""
    assert parses(["the", "dogs", "see", "a", "small", "cat", "near", "this", "river"])
    for wrong in (
        "the dogs sees a cat",
        "a dogs see a cat",
        "these dog sees a cat",
        "the dog see a cat",
        "dog sees a cat",
        "the dog sees",
        "the dog a cat sees",
        "the dog small sees a cat",
        "the dog barks a cat",
        "",
    ):
        assert not parses(wrong.split()), wrong
    task, prompt = Sentences(), "sentence cat dogs :"
    assert task.verify(prompt, "the dogs see a cat") == 1
    assert task.verify(prompt, "the dogs see a bird") == 0
    assert set(LEXICON) <= set(task.words())


def test_placements_count_roles() -> None:
    """One verb of one thing: every frame has one place for it. A noun has two or three."""
    assert placements(["sees"]) == 3
    assert placements(["dog"]) == 2 + 3 + 3
    assert placements(["dog", "sees"]) == placements(["sees", "dog"]) < placements(["dog"]) + 1
    assert placements(["sees", "see"]) == 0
