"""Arithmetic: samples against Python's own evaluator, steps against hand-made derivations."""

import re

import numpy as np
import pytest

from experiments.tasks.arithmetic import Arithmetic, check_steps, evaluate
from experiments.tasks.task import SPLITS, Split, check_split, split_of


def draw(task: Arithmetic, count=200, seed=0, split: Split = "train"):
    return task.sample(np.random.default_rng(seed), count, split)


def test_samples_agree_with_python():
    task = Arithmetic((1, 6))
    seen = set()
    for example in draw(task):
        value = eval(example.prompt.removesuffix("="))
        assert example.meta["answer"] == str(value) == task.extract(example.target)
        assert evaluate(example.prompt) == value
        assert task.verify(example.prompt, example.target) == 1.0
        lines = example.target.split("\n")
        assert len(lines) == example.meta["operations"] + 1
        for line in lines[:-1]:
            left, right = line.split("=")
            assert eval(left) == int(right) and 0 <= int(right) <= 99
        assert all(check_steps(example.prompt, example.target))
        seen.add(example.meta["operations"])
    assert seen == set(range(1, 7))


def test_sizes_stay_within_the_stated_bounds():
    task = Arithmetic((6, 6))
    codec = task.tokenizer()
    examples = draw(task)
    assert max(len(codec.encode(example.prompt)) for example in examples) <= 24
    assert max(len(codec.encode(example.target)) for example in examples) <= 57
    assert codec.vocab_size == 21


def test_difficulty_knobs():
    hard = Arithmetic((3, 3), operand=99, lowest=-500, highest=999)
    values = [int(v) for e in draw(hard) for v in re.findall(r"-?\d+$", e.target, re.MULTILINE)]
    assert min(values) < 0 and max(values) > 99
    assert set(values) <= set(range(-500, 1000))
    for example in draw(hard):
        assert hard.verify(example.prompt, example.target) == 1.0
        assert all(check_steps(example.prompt, example.target))


def test_same_seed_same_examples_and_splits_never_meet():
    task = Arithmetic((1, 4))
    assert draw(task, seed=3) == draw(task, seed=3) != draw(task, seed=4)
    prompts = {split: {e.prompt for e in draw(task, 150, split=split)} for split in SPLITS}
    assert all(split_of(prompt) == split for split, group in prompts.items() for prompt in group)
    assert not prompts["train"] & prompts["test"] and not prompts["train"] & prompts["validation"]


def test_rejecting_other_splits_keeps_the_difficulties_even():
    examples = draw(Arithmetic((1, 3)), 600, split="train")
    counts = np.bincount([e.meta["operations"] for e in examples])[1:]
    assert counts.min() > 150  # 200 each expected, standard deviation 11.5


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("3+4=7\n#7", "7"),
        ("#007", "7"),
        ("#-12", "-12"),
        ("#7\n", None),
        ("3+4=7", None),
        ("#7 ", None),
        ("x#7", None),
        ("#", None),
        ("", None),
        ("#1\n#2", "2"),
    ],
)
def test_extraction(completion, answer):
    assert Arithmetic().extract(completion) == answer


def test_a_wrong_answer_scores_zero_whatever_the_steps():
    task = Arithmetic()
    assert task.verify("(3+4)*2=", "3+4=7\n7*2=14\n#14") == 1.0
    assert task.verify("(3+4)*2=", "3+4=7\n7*2=14\n#15") == 0.0
    assert task.verify("(3+4)*2=", "nonsense\n#14") == 1.0
    assert task.verify("(3+4)*2=", "") == 0.0


@pytest.mark.parametrize(
    ("prompt", "completion", "labels"),
    [
        ("((3+4)*2)-5=", "3+4=7\n7*2=14\n14-5=9\n#9", [True, True, True]),
        ("((3+4)*2)-5=", "3+4=8\n8*2=16\n#11", [False, False]),
        ("((3+4)*2)-5=", "3+4=7\n7*2=15\n14-5=9\n#9", [True, False, False]),
        ("((3+4)*2)-5=", "3+4=7\n14-5=9\n#9", [True, False]),
        ("((3+4)*2)-5=", "4*2=8\n#9", [False]),
        ("(1+2)*(3+4)=", "3+4=7\n1+2=3\n3*7=21\n#21", [True, True, True]),
        # The two equal subexpressions may be reduced in either order.
        ("(3+4)*((3+4)-2)=", "3+4=7\n7-2=5\n3+4=7\n7*5=35\n#35", [True] * 4),
        ("(3+4)*((3+4)-2)=", "3+4=7\n3+4=7\n3+4=7\n#35", [True, True, False]),
        ("(2-5)*3=", "2-5=-3\n-3*3=-9\n#-9", [True, True]),
        ("3+4=", "3+4=7\n7+0=7\n#7", [True, False]),
        ("3+4=", "#7", []),
        ("3+4=", "", [False]),
    ],
)
def test_step_labels(prompt, completion, labels):
    assert check_steps(prompt, completion) == labels


@pytest.mark.parametrize("prompt", ["", "=", "3+4", "(3+4=", "3+4)=", "3+=", "+3=", "3+4*2=", "a=",
                                    "()=", "3=4=", "(3)4="])  # fmt: skip
def test_malformed_prompts_are_named(prompt):
    with pytest.raises(ValueError, match=r"expected|prompt"):
        evaluate(prompt)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="operations"):
        Arithmetic((0, 3))
    with pytest.raises(ValueError, match="operand"):
        Arithmetic(operand=0)
    with pytest.raises(ValueError, match="widen"):
        Arithmetic(highest=5)
    with pytest.raises(ValueError, match="split"):
        check_split("dev")
