"""The experiments on heads, whole, on a small untrained target: what the plumbing must survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from experiments.inputs.sources import bound
from experiments.speculative import trained_heads
from experiments.speculative.clover import main as clover
from experiments.speculative.kangaroo import main as kangaroo
from experiments.speculative.kangaroo import setting as kangaroo_setting
from experiments.speculative.kangaroo.setting import rates, speed_up
from experiments.speculative.rasd import main as rasd
from experiments.speculative.rasd import setting as rasd_setting
from experiments.speculative.rasd.setting import CUE, quotes
from experiments.speculative.speculation import Field, decode_field
from experiments.speculative.trained_heads import HeadTraining
from jaxdecode.train.frozen import Lesson
from models.heads.eagle import Eagle
from models.heads.kangaroo import Kangaroo
from models.presets import small
from models.transformer import Transformer

TARGET = Transformer(small(1024, hidden=32, layers=2, heads=2), rngs=nnx.Rngs(0))
PROMPTS = tuple(tuple(np.random.default_rng(1).integers(1024, size=12)) for _ in range(2))
FIELD = Field("stdlib", TARGET, TARGET, (0,), PROMPTS, 6)
TRAINING = HeadTraining(steps=2, rows=2, width=24)
TEXT = np.random.default_rng(2).integers(1, 1024, size=4000).astype(np.int32)


@pytest.fixture(autouse=True)
def small_target(monkeypatch):
    """A target that compiles in no time, and a text that needs no reading."""
    for module in (clover, kangaroo, rasd_setting):
        monkeypatch.setattr(module, "field_of", lambda *arguments: FIELD)
    for module in (kangaroo_setting, rasd_setting, trained_heads):
        monkeypatch.setattr(module, "library", lambda split: TEXT)

    def train(target, heads, lesson, how, folder, text=None):
        return trained_heads.train(target, heads, lesson, how, folder, lambda split: TEXT)

    for module in (clover, kangaroo, rasd):
        monkeypatch.setattr(module, "train", train)


def lossless(report) -> bool:
    return next(claim.holds for claim in report.claims if claim.paper == "lossless")


def test_rates_of_rounds():
    """Of rounds that emitted 1, 3, 2, 7 and 1 tokens."""
    histogram = np.bincount(np.array([1, 3, 2, 7, 1]) - 1, minlength=8)
    rate, tails = rates(histogram)
    assert rate == pytest.approx(2.8)
    assert tails[:6] == pytest.approx([0.6, 0.4, 0.2, 0.2, 0.2, 0.2])
    assert sum(tails) + 1 == pytest.approx(rate)


def test_a_modelled_round_costs_what_the_docstring_says():
    head = Kangaroo.of(TARGET, layers=1, rngs=nnx.Rngs(0))
    plain = decode_field(FIELD, FIELD.plain(), 2)
    found = replace(plain, drafted=2 * plain.passes)
    cost = head.cost.parameters / TARGET.cost.parameters
    expected = found.per_call / (3 * 0.5 + 2 * cost + 0.5)
    assert speed_up(FIELD, head, found) == pytest.approx(expected)


def test_kangaroo_runs_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(kangaroo, "head_of", lambda *arguments: None)
    config = kangaroo.Config(
        batch=2,
        exits=(0, 1),
        variant_exit=1,
        variants=("MLP",),
        lengths=(2,),
        thresholds=(0.0, 0.9),
        training=TRAINING,
        out=tmp_path,
    )
    report = kangaroo.run(config)
    assert lossless(report)
    assert [row["study"] for row in report.rows].count("threshold") == 2
    assert {row["drafter"] for row in report.rows} == {"adapter", "MLP"}
    assert len(report.claims) == 5  # two exits have none in between, and two thresholds no best
    assert (tmp_path / "figure.png").is_file()


def test_clover_runs_whole(tmp_path):
    config = clover.Config(
        batch=2,
        kinds=("none", "clover"),
        sizes=(2,),
        batches=(1, 2),
        training=TRAINING,
        out=tmp_path,
    )
    report = clover.run(config)
    assert lossless(report)
    assert len([row for row in report.rows if row["study"] == "accuracy"]) == 6
    assert len([row for row in report.rows if row["study"] == "batch"]) == 4
    assert (tmp_path / "figure.png").is_file()


def test_rasd_runs_whole(tmp_path, monkeypatch):
    head = bound(Eagle.of(TARGET, rngs=nnx.Rngs(0)))
    monkeypatch.setattr(rasd, "head_of", lambda *arguments: head)
    config = rasd.Config(
        batch=2,
        tasks=("code",),
        width=2,
        length=2,
        nodes=6,
        extra=3,
        corpus=2000,
        training=TRAINING,
        out=tmp_path,
    )
    report = rasd.run(config)
    assert lossless(report)
    assert len(report.rows) == 2 * 5
    assert (tmp_path / "figure.png").is_file()


def test_a_head_scores_beside_others_what_it_scores_alone():
    lesson = Lesson(soft=1.0, layers=(1,))
    heads = {
        "one": Kangaroo.of(TARGET, layers=1, rngs=nnx.Rngs(1)),
        "two": Kangaroo.of(TARGET, layers=1, kind="mlp", rngs=nnx.Rngs(2)),
    }
    found = trained_heads.score(TARGET, heads, lesson, TRAINING)
    alone = trained_heads.score(TARGET, {"two": heads["two"]}, lesson, TRAINING)
    assert alone["two/acceptance_0"] == pytest.approx(found["two/acceptance_0"], rel=1e-5)


def test_paths_are_given_together():
    with pytest.raises(ValueError, match="give both"):
        trained_heads.field_of(2, 4, "folder", None)


def test_a_quote_begins_again(monkeypatch):
    monkeypatch.setattr(rasd_setting, "PASSAGE", 16)
    for prompt in quotes(FIELD).prompts:
        assert len(prompt) == 16 + CUE
        assert prompt[16:] == prompt[:CUE]
