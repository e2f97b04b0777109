"""The programs task: every operation against Python in the sandbox, tests that tell rules apart."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.sandbox.program import Limits, run_program
from experiments.tasks.programs import (
    Programs,
    near_miss,
    parse,
    passed,
    passed_in_sandbox,
    python,
    run,
    show,
    split_steps,
)
from experiments.tasks.refinement import Refinements, guess_program, tenths
from experiments.tasks.task import SPLITS, split_of

TASK = Programs()
KNOWN = {
    "rev": [9, 4, 9, 2],
    "sort": [2, 4, 9, 9],
    "uniq": [2, 9, 4],
    "neg": [-2, -9, -4, -9],
    "even": [2, 4],
    "odd": [9, 9],
    "sum": [24],
    "diff": [7, -5, 5],
    "add 7": [9, 16, 11, 16],
    "mul 4": [8, 36, 16, 36],
    "take 2": [2, 9],
    "drop 3": [9],
    "over 4": [9, 9],
    "mul 4 mul 4 neg": [-32, -99, -64, -99],
    "": [2, 9, 4, 9],
}


def test_every_operation():
    for program, expected in KNOWN.items():
        assert run(program, [2, 9, 4, 9]) == expected, program


def test_python_says_the_same():
    codes = [python(program) for program in KNOWN]
    body = f"codes = {codes!r}\nfor c in codes:\n  exec(c)\n  print(solve([2, 9, 4, 9]))"
    ran = run_program(body, limits=Limits(wall=20.0))
    assert ran.stdout.splitlines() == [str(expected) for expected in KNOWN.values()]


def test_examples_are_right_and_need_every_operation():
    for split in SPLITS:
        for example in TASK.sample(np.random.default_rng(0), 20, split):
            assert split_of(example.prompt) == split
            pairs = parse(example.prompt)
            assert show(pairs) == example.prompt and len(pairs) == TASK.public
            assert TASK.verify(example.prompt, example.target) == 1.0
            assert passed(example.target, example.meta["hidden"]) == 1.0
            # After its prompt a program has a space before it; two are one too many.
            assert passed(f" {example.target}", example.meta["hidden"]) == 1.0
            assert passed(f"  {example.target}", example.meta["hidden"]) == 0.0
            steps = split_steps(example.target)
            assert len(steps) == example.meta["operations"]
            for i in range(len(steps)):
                assert TASK.verify(example.prompt, " ".join(steps[:i] + steps[i + 1 :])) < 1.0
            codec = TASK.tokenizer()
            assert codec.decode(codec.encode(example.prompt)) == example.prompt
            assert codec.decode(codec.encode(example.target)) == example.target


def test_partial_credit_and_what_is_no_program():
    prompt = "1 2 > 2 1 ; 3 > 3 ; > ; 4 5 > 4 5 :"
    assert TASK.verify(prompt, "rev") == 0.75
    for text in ("reverse", "rev ", "rev, sort", "add", "rev 3", "add 12", "rev  sort", "3"):
        assert TASK.verify(prompt, text) == 0.0
        assert TASK.extract(text) is None
    assert TASK.extract("rev add 3") == "rev add 3"
    with pytest.raises(ValueError, match="is no chain of"):
        run("boom", [1])
    for bad in ("1 > 2", "1>2:", "1 > 2 ; :", "1  > 2 :"):
        with pytest.raises(ValueError, match="is not 'x > y"):
            TASK.verify(bad, "rev")


def test_model_written_python_is_judged_in_the_sandbox():
    pairs = [([1, 2], [2, 1]), ([3], [3])]
    limits = Limits(wall=20.0, cpu=1.0)
    assert passed_in_sandbox("def solve(x): return x[::-1]", pairs, limits) == 1.0
    assert passed_in_sandbox("def solve(x): return [x[1], x[0]]", pairs, limits) == 0.5
    assert passed_in_sandbox("def solve(x): raise KeyError", pairs, limits) == 0.0
    assert passed_in_sandbox("def solve(x): raise SystemExit", pairs, limits) == 0.0
    assert passed_in_sandbox("print('right\\nright'); raise SystemExit", pairs, limits) == 0.0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="operations is"):
        Programs((2, 1))
    with pytest.raises(ValueError, match="hidden is 0"):
        Programs(hidden=0)


def test_lessons_show_near_misses_with_true_scores_and_ask_for_the_reference():
    lessons = Refinements(TASK, guess_program)
    seen, codec = set(), TASK.tokenizer()
    for example in lessons.sample(np.random.default_rng(1), 40, "train"):
        question = example.meta["question"]
        assert example.prompt.startswith(question) and example.target == example.meta["answer"]
        assert lessons.verify(example.prompt, example.target) == 1.0
        shown = example.prompt[len(question) :].split()
        seen.add((shown.count("best"), shown.count("worst")))
        assert codec.decode(codec.encode(example.prompt)) == example.prompt
        for name in ("best", "worst"):
            if name in shown:
                stop = shown.index("scores", shown.index(name))
                text = " ".join(shown[shown.index(name) + 1 : stop])
                assert int(shown[stop + 1]) == tenths(TASK.verify(question, text))
    assert seen == {(0, 0), (1, 0), (1, 1)}


def test_a_near_miss_is_a_program():
    rng = np.random.default_rng(2)
    same = [near_miss(rng, "sort mul 2", 0.0) for _ in range(50)]
    assert "sort mul 2" in same and {len(split_steps(text)) for text in same} == {1, 2, 3}
    assert all(TASK.extract(text) == text for text in same)
