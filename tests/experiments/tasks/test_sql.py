"""The SQL task: queries are those that questions mean, scores those of a naive comparison."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.tasks.batches import Batch, ExampleBatches
from experiments.tasks.refinement import Refinements, guess_query, review, tenths
from experiments.tasks.sql import MEANINGS, ODDS, Question, Sql, intent, meant, similarity
from experiments.tasks.task import SPLITS, split_of

TASK = Sql()


def test_examples_are_right_and_keep_to_their_split():
    for split in SPLITS:
        for example in TASK.sample(np.random.default_rng(0), 20, split):
            assert split_of(example.prompt) == split
            assert example.target == meant(example.prompt) == example.meta["answer"]
            assert TASK.verify(example.prompt, example.target) == 1.0
            assert TASK.run(example.prompt, example.target).status == "ok"
            open_words = [word for word in example.prompt.split() if word in MEANINGS]
            assert len(open_words) == example.meta["open"]
            codec = TASK.tokenizer()
            assert codec.decode(codec.encode(example.target)) == example.target


def test_closed_words_mean_what_they_say():
    (example,) = Sql((0, 0)).sample(np.random.default_rng(1), 1, "test")
    question = Question.parse(example.prompt)
    assert all(len(options) == 1 for options in question.options)
    words = example.prompt.split()
    assert f"select {words[6]} , {words[8]} from items" in example.target


def test_intents_follow_the_odds():
    prompts = [example.prompt for example in TASK.sample(np.random.default_rng(2), 3000, "train")]
    meanings = [
        meaning
        for prompt in prompts
        for word, meaning in zip(Question.parse(prompt).words, intent(prompt), strict=True)
        if word == "few"
    ]
    share = [meanings.count(meaning) / len(meanings) for meaning in MEANINGS["few"]]
    np.testing.assert_allclose(share, ODDS[3], atol=0.05)  # 4.5 standard errors


def test_scores_compare_rows():
    rows = [(1, 2), (3, 4)]
    assert similarity(rows, rows) == 1.0
    assert similarity([], []) == 1.0
    assert similarity([(3, 4), (1, 2)], rows) == pytest.approx((1 + 0) / 2)
    assert similarity([(1, 9), (3, 9)], rows) == pytest.approx((0.5 + 0.5) / 2)
    assert similarity([(1, 2)], rows) == pytest.approx(2 * 2 / 6)
    assert similarity([], rows) == 0.0


def test_failing_queries_score_nothing():
    prompt = TASK.sample(np.random.default_rng(3), 1, "test")[0].prompt
    for text in ("", "drop table items", "select nope from items", "best best"):
        assert TASK.verify(prompt, text) == 0.0
    assert TASK.extract("  select  1 ") == "select 1"
    assert TASK.extract(" ") is None


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="open_parts is"):
        Sql((3, 7))
    with pytest.raises(ValueError, match="rows is 0"):
        Sql(rows=0)
    with pytest.raises(ValueError, match="is no question"):
        TASK.verify("show price", "select 1")


def test_reviews_read_as_described():
    assert review("q ?") == "q ?"
    assert review("q ?", ("a", 0.71), ("b", 0.0)) == "q ? best a scores 7 worst b scores 0 answer"
    assert [tenths(x) for x in (-1.0, 0.0, 0.3, 0.999, 1.0, 7.0)] == [0, 0, 3, 9, 10, 10]


def test_lessons_show_true_scores_and_ask_for_the_query_meant():
    lessons = Refinements(TASK, guess_query)
    stream = ExampleBatches(lessons, TASK.tokenizer(), 24, (80,), seed=0)
    batch, again = stream(5), stream(5)
    np.testing.assert_array_equal(batch.tokens, again.tokens)
    assert isinstance(batch, Batch) and batch.tokens.shape == (24, 80)
    kinds = set()
    for row, mask, length in zip(batch.tokens, batch.loss_mask, batch.length, strict=True):
        text = stream.codec.decode(row[:length].tolist())
        prompt = text[: text.index("?") + 1]
        answer = stream.codec.decode(row[mask].tolist())
        assert answer == meant(prompt)
        shown = text[len(prompt) : len(text) - len(answer)].split()
        kinds.add((shown.count("best"), shown.count("worst")))
        for name in ("best", "worst"):
            if name in shown:
                at = shown.index(name)
                stop = shown.index("scores", at)
                query, score = " ".join(shown[at + 1 : stop]), int(shown[stop + 1])
                assert score == tenths(TASK.verify(prompt, query))
    assert kinds == {(0, 0), (1, 0), (1, 1)}
