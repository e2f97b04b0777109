"""HumanEval's format, its judge in the sandbox, and the pass@k estimator."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.sandbox.program import Limits
from experiments.tasks.human_eval import HumanEval, pass_at_k, read

PROMPT = 'from math import floor\n\n\ndef half(x: int) -> int:\n    """Half of x, rounded."""\n'
RECORD = {
    "task_id": "Own/0",
    "prompt": PROMPT,
    "entry_point": "half",
    "canonical_solution": "    return floor(x / 2)\n",
    "test": "def check(candidate):\n    assert candidate(5) == 2\n    assert candidate(-1) == -1\n",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> HumanEval:
    path = tmp_path_factory.mktemp("human_eval") / "own.jsonl"
    path.write_text(json.dumps(RECORD) + "\n")
    return HumanEval(path, Limits(wall=20.0, cpu=1.0))


def test_completions_are_judged_by_the_tests(task):
    completions = {
        RECORD["canonical_solution"]: True,
        "    return x // 2\n\n\ndef other():\n    return half(1) / 0\n\nprint(other())": True,
        "Sure:\n```python\ndef half(x):\n    return floor(x / 2)\n```\nDone.": True,
        "```\n    return x // 2\n```": True,
        "    return x / 2\n": False,
        "    return\n  x": False,
        "": False,
        "    raise SystemExit(0)\n": False,
        "    import os; os._exit(0)\n": False,
        "    while True: pass\n": False,
        "    import os; os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)\n": False,
    }
    judged = task.verify_all([PROMPT] * len(completions), list(completions), workers=4)
    assert dict(zip(completions, judged, strict=True)) == completions


def test_the_judge_says_why(task):
    right, run = task.judge(PROMPT, "    return x / 2\n")
    assert not right and "AssertionError" in run.stderr
    assert task.verify(PROMPT, RECORD["canonical_solution"]) == 1.0
    with pytest.raises(ValueError, match="is no problem of"):
        task.verify("def f():", "")


def test_examples(task):
    (example,) = task.examples()
    assert (example.prompt, example.target) == (PROMPT, RECORD["canonical_solution"])
    assert task.examples("train") == []
    assert task.sample(np.random.default_rng(0), 1, "test") == [example]
    with pytest.raises(ValueError, match="count is 2"):
        task.sample(np.random.default_rng(0), 2, "test")


def test_files_are_read_plain_and_gzipped_and_faults_are_named(tmp_path: Path):
    packed = tmp_path / "own.jsonl.gz"
    with gzip.open(packed, "wt") as file:
        file.write("\n" + json.dumps(RECORD) + "\n\n")
    assert [example.prompt for example in read(packed)] == [PROMPT]
    for text, match in (
        ("{", "line 2: expected one JSON object"),
        ("[]", "line 2: expected a JSON object, got list"),
        (json.dumps(RECORD | {"test": 3}), "line 2: expected a string under 'test'"),
        (json.dumps(RECORD | {"entry_point": "a b"}), "'a b' names no function"),
    ):
        path = tmp_path / "bad.jsonl"
        path.write_text(json.dumps(RECORD) + "\n" + text + "\n")
        with pytest.raises(ValueError, match=match):
            read(path)


def test_pass_at_k_counts_subsets():
    for n, c in ((5, 0), (5, 2), (5, 4), (5, 5)):
        outcomes = [i < c for i in range(n)]
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(outcomes, k))
            share = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(n, c, k) == pytest.approx(share)
    for bad in ((5, 6, 1), (5, 2, 0), (5, 2, 6), (5, -1, 1)):
        with pytest.raises(ValueError, match="pass 0 <= passed"):
            pass_at_k(*bad)
