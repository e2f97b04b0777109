"""SQuAD files, answers compared, passages cut into windows."""

from __future__ import annotations

import json

import pytest

from experiments.inputs.squad import exact, f1, misaligned, read_squad, windows

CONTEXT = "The cat sat on the mat."


def file(tmp_path, **changes):
    asked = {
        "id": "q1",
        "question": "Who sat?",
        "answers": [{"text": "cat", "answer_start": 4}],
    } | changes
    path = tmp_path / "squad.json"
    data = {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [asked]}]}]}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path) -> None:
    (asked,) = read_squad(file(tmp_path))
    assert (asked.number, asked.context, asked.answers) == ("q1", CONTEXT, ("cat",))
    assert asked.spans == ((4, 7),)
    assert not misaligned([(0, 3), (3, 7), (7, 11)], asked)  # " cat"
    assert misaligned([(0, 3), (3, 6), (6, 11)], asked)


def test_refusals(tmp_path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_squad(tmp_path / "missing.json")
    with pytest.raises(ValueError, match=r"question 0 \(q1\): its question is empty"):
        read_squad(file(tmp_path, question=" "))
    with pytest.raises(ValueError, match="does not stand at character 3"):
        read_squad(file(tmp_path, answers=[{"text": "cat", "answer_start": 3}]))
    with pytest.raises(ValueError, match="no question in it has an answer"):
        read_squad(file(tmp_path, answers=[]))
    with pytest.raises(ValueError, match="not in SQuAD's format"):
        read_squad(file(tmp_path, answers=[{"text": "cat"}]))


def test_worked_scores() -> None:
    assert f1("the cat sat", ["cat sat"]) == 1.0
    assert abs(f1("cat", ["cat sat"]) - 2 / 3) < 1e-9
    assert f1("dog", ["cat", "a dog!"]) == 1.0 and f1("", ["cat"]) == 0.0
    assert exact("The Cat.", ["cat"]) == 1.0 and exact("cats", ["cat"]) == 0.0


def test_windows_cover_and_fit() -> None:
    context = " ".join(map(str, range(1000)))
    parts = windows(context, lambda text: len(text.split()) <= 300)
    assert all(len(part.split()) <= 300 for part in parts) and len(parts) > 1
    assert {word for part in parts for word in part.split()} == set(context.split())
    assert parts[-1].split()[-1] == "999"
    assert windows("a b", lambda text: True) == ["a b"]
    with pytest.raises(ValueError, match="not even one word"):
        windows("a b", lambda text: False)
