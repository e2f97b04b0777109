"""The real model's story, told by a tiny one: everything is counted, shown and judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.commands.demo import main, story
from experiments.commands.demo.tour import Course, number, twelve_words
from experiments.inputs import sources
from experiments.zoo import real
from jaxdecode.testing.enumerable import EnumerableLM
from tests.experiments.folders import build

SMALL = Course(
    answer_tokens=6, sums=4, samples=2, sum_tokens=6, things=2, drawn=2, width=4,
    sentence_tokens=12, rewritten=8, turns=1,
)  # fmt: skip


def test_a_number_is_the_last_one():
    assert number("7 plus 5 is 12.") == 12
    assert number("no idea") is None


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("The sea is a wide and restless water under a pale sky.", 1.0),
        ("The sea is wide.", 1 - 8 / 12),
        ("One. Two.", 0.0),
        ("The sea is a wide and restless water under a pale sky", 0.0),
        ("", 0.0),
    ],
)
def test_the_judge_wants_one_sentence_of_twelve_words(text: str, worth: float):
    assert twelve_words("", text) == pytest.approx(worth)


def test_a_claim_of_more_is_resolved_where_its_interval_is():
    assert story.gained("x", np.ones(20), np.zeros(20)).verdict == "holds"
    assert story.gained("x", np.zeros(20), np.ones(20)).verdict == "fails"
    tosses = np.random.default_rng(0).integers(0, 2, 6).astype(float)
    assert story.gained("x", tosses, np.full(6, 0.5)).verdict == "not resolved"


def test_every_method_is_told(tmp_path: Path, monkeypatch, capsys):
    folders = build(tmp_path / "models")
    opened = sources.open_model(str(folders["generator"]))
    opened = replace(opened, model=EnumerableLM.random(0, opened.model.vocab_size))
    long = [{"role": "user", "content": "a"}]
    monkeypatch.setattr(story, "open_model", lambda name: opened)
    monkeypatch.setattr(
        type(opened.codec), "prompt", lambda self, words: self.text.encode_chat(long)
    )
    report = story.run(SMALL, 0, tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert {row["task"] for row in report.rows} == {"questions", "sums", "a sentence", "rewriting"}
    for row in report.rows:
        assert row["method"] in text and row["tokens drawn"] > 0
    drafted = [claim for claim in report.claims if "token for token" in claim.claim]
    assert drafted[0].holds
    assert "python -m experiments generate" in capsys.readouterr().out


def test_without_the_package_the_page_says_so(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(real, "names", lambda: [])
    monkeypatch.setattr(main.shipped, "run", lambda config, note: said.append(note))
    main.run(main.PRESETS["cpu"])
    assert real.REAL["smollm2"].recipe in said[0]
    main.run(main.PRESETS["smoke"])
    assert said[1] == ""
