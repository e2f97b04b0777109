"""GSM8K: the published line format, answers in every written form, and malformed lines."""

import json

import numpy as np
import pytest

from experiments.tasks.gsm8k import Gsm8k, read
from experiments.tasks.task import split_of

RECORDS = [
    {
        "question": f"What is {n} plus {n}?",
        "answer": f"It is <<{n}+{n}={2 * n}>>{2 * n}.\n#### {2 * n:,}",
    }
    for n in range(600, 700)
]


@pytest.fixture
def task(tmp_path):
    for name, rows in (("train", RECORDS[:80]), ("test", RECORDS[80:])):
        text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
        (tmp_path / f"{name}.jsonl").write_text(text)
    return Gsm8k(tmp_path / "train.jsonl", tmp_path / "test.jsonl")


def test_reading(task):
    groups = {split: task.examples(split) for split in ("train", "validation", "test")}
    assert [e.prompt for e in groups["test"]] == [row["question"] for row in RECORDS[80:]]
    assert len(groups["train"]) + len(groups["validation"]) == 80
    assert all(split_of(e.prompt) == "validation" for e in groups["validation"])
    assert groups["test"][0].target == "It is 1360.\n#### 1,360"
    assert groups["test"][0].meta["answer"] == "1360"
    kept = Gsm8k(task.train, task.test, calculator=True)
    assert kept.examples("test")[0].target == RECORDS[80]["answer"]


def test_sampling_and_verifying(task):
    first, again = (task.sample(np.random.default_rng(0), 15, "test") for _ in range(2))
    assert first == again and len({e.prompt for e in first}) == 15
    for example in first:
        assert task.verify(example.prompt, example.target) == 1.0
        assert task.verify(example.prompt, f"#### {int(example.meta['answer']) + 1}") == 0.0
        assert task.verify(example.prompt, "no answer") == 0.0
    with pytest.raises(ValueError, match="count is 21"):
        task.sample(np.random.default_rng(0), 21, "test")
    with pytest.raises(ValueError, match="not a question"):
        task.verify("What is love?", "#### 1")


@pytest.mark.parametrize(
    ("completion", "strict", "flexible"),
    [
        ("so\n#### 18", "18", "18"),
        ("#### $1,200.00", "1200", "1200"),
        ("####-3.50", "-3.5", "-3.5"),
        ("#### -$7", "-7", "-7"),
        ("#### .5", "0.5", "0.5"),
        ("#### 2.", "2", "2"),
        ("#### -0", "0", "0"),
        ("#### 4\n#### 5", "5", "5"),
        ("1 then 2, so the answer is 1,234.", None, "1234"),
        ("#### none, 8", None, "8"),
        ("nothing", None, None),
    ],
)
def test_extraction(task, completion, strict, flexible):
    assert task.extract(completion) == strict
    assert Gsm8k(task.train, task.test, flexible=True).extract(completion) == flexible


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "one JSON object a line"),
        ("[1]", "JSON object, got list"),
        ('{"answer": "#### 1"}', "string under 'question', got None"),
        ('{"question": "q", "answer": 1}', "string under 'answer', got 1"),
        ('{"question": "q", "answer": "18"}', "to end in '#### number', got '18'"),
    ],
)
def test_malformed_lines_are_located(tmp_path, line, complaint):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=complaint) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 2: expected")
