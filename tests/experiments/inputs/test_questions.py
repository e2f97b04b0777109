"""Question files: the format, and what is wrong with a line that is not in it."""

import pytest

from experiments.inputs.questions import Question, read_questions, spread

GOOD = '{"question_id": 81, "category": "writing", "turns": ["Compose", "Rewrite"]}\n'


def test_the_first_turn_is_the_prompt(tmp_path) -> None:
    path = tmp_path / "question.jsonl"
    path.write_text(GOOD + "\n" + '{"turns": ["Why?"]}\n')
    assert read_questions(path) == [Question(81, "writing", "Compose"), Question(3, "", "Why?")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: no JSON"),
        ("[]", "line 2: 'turns'"),
        ('{"turns": []}', "line 2: 'turns'"),
        ('{"turns": [3]}', "line 2: 'turns'"),
        ('{"turns": ["a"], "question_id": "x"}', "line 2: 'question_id'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message) -> None:
    path = tmp_path / "question.jsonl"
    path.write_text(GOOD + line + "\n")
    with pytest.raises(ValueError, match=message):
        read_questions(path)


def test_a_missing_or_empty_file_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no question"):
        read_questions(tmp_path / "empty.jsonl")


def test_categories_take_turns() -> None:
    questions = [Question(i, name, name) for i, name in enumerate("aaabc")]
    assert [q.category for q in spread(questions, 4)] == ["a", "b", "c", "a"]
    assert len(spread(questions, 9)) == 5
