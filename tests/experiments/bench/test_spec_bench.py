"""The race of all ways of speculating: what it counts, what it claims, whose prompts it takes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flax import nnx

from experiments.bench import peers
from experiments.bench.spec_bench.findings import claims
from experiments.bench.spec_bench.main import PRESETS, Config, run
from experiments.bench.spec_bench.speculators import METHODS
from experiments.bench.spec_bench.wider_target import widened
from experiments.harness.report import Report
from experiments.inputs.questions import REAL_TEXTS, grouped, part_of, read_questions
from experiments.speculative.speculation import Field, counts
from jaxdecode.decoder import decode
from jaxdecode.testing.enumerable import EnumerableLM
from models.presets import small
from models.transformer import Transformer

SMOKE = PRESETS["smoke"]
PROMPTS = ((1, 5, 9, 4), (1, 7, 7), (1, 20, 3, 11, 2))


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    """The smoke preset, without the peer, which is not always there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "missing", lambda: "left out")
        return run(replace(SMOKE, out=tmp_path_factory.mktemp("race")))


def test_methods_write_what_plain_decoding_writes(report) -> None:
    named = {row["method"]: row for row in report.rows}
    assert set(named) == {"plain decoding", *SMOKE.methods}
    assert all(row["equal_rows"] == 1.0 for row in named.values())
    assert named["draft model"]["tokens_per_call"] > 1.1
    assert named["plain decoding"]["speed_up"] == 1.0
    exact = next(claim for claim in report.claims if "exact" in claim.claim)
    assert exact.holds


def test_questions_of_a_file_are_raced_by_the_same_command(tmp_path, monkeypatch) -> None:
    path = tmp_path / "question.jsonl"
    turns = ["import os\n", "def main(", "class A"]
    path.write_text("\n".join(json.dumps({"turns": [turn]}) for turn in turns))
    monkeypatch.setattr(peers, "missing", lambda: "left out")
    config = replace(SMOKE, methods=("prompt lookup",), questions=path, max_tokens=8)
    shallow = "stdlib-draft"  # is one layer, which is written out
    rows = run(replace(config, target=shallow, draft=shallow)).rows
    assert {row["task"] for row in rows} == {"questions"} and len(rows) == 2


def test_groups_are_raced_apart_without_a_draft_model(tmp_path, monkeypatch, capsys) -> None:
    """What is left out is told; a careful policy learns from questions that are not raced."""
    monkeypatch.setattr(peers, "missing", lambda: "left out")
    path = tmp_path / "question.jsonl"
    lines = [(group, f"{word} = 1\n") for word in "abcd" for group in ("code", "chat")]
    path.write_text("\n".join(json.dumps({"category": g, "turns": [t]}) for g, t in lines))
    methods = ("draft model", "prompt lookup, cost-aware", "rest")
    config = replace(SMOKE, methods=methods, questions=path, grouped=True, target="stdlib-draft")
    rows = run(replace(config, max_tokens=8, modelled=False)).rows
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method)
        for task in ("code", "chat")
        for method in ("plain decoding", "prompt lookup, cost-aware")
    ]
    assert all(len(row["seconds"]) == 2 and row["equal_rows"] == 1.0 for row in rows)
    told = capsys.readouterr().out
    assert "draft model is left out: it needs a draft model" in told
    assert "rest is left out: its corpus is that of stdlib" in told


def test_the_shipped_questions_are_of_eight_groups() -> None:
    asked = read_questions(REAL_TEXTS)
    sizes = Counter(question.category for question in asked)
    assert len(sizes) == 8 and set(sizes.values()) == {6}
    assert len({question.text for question in asked}) == len(asked)
    for split in ("test", "validation"):
        assert set(map(len, grouped(part_of(asked, split), 3).values())) == {3}


def row(method: str, kind: str, speed_up: float, **more) -> dict:
    """A method that takes so many times less on each of four prompts."""
    seconds = [1.0 / speed_up, 2.0 / speed_up, 1.5 / speed_up, 1.0 / speed_up]
    base = {"task": "t", "batch": 1, "method": method, "kind": kind, "seconds": seconds}
    return base | {"equal_rows": 1.0, **more}


def test_claims_follow_their_rules() -> None:
    rows = [
        row("plain decoding", "", 1.0),
        row("draft model", "draft model", 1.7),
        row("eagle", "trained", 1.9),
        row("prompt lookup", "training-free", 1.4),
        row("prompt lookup, cost-aware", "training-free", 0.96),
        row("transformers, prompt lookup", "peer", 0.5),
    ]
    held = {claim.claim: claim.holds for claim in claims(rows, False)}
    assert list(held.values()) == [True, False, True, True, True]
    wrong = [*rows, row("spectr", "draft model", 1.0, equal_rows=0.5)]
    assert not claims(wrong, False)[-1].holds


def test_a_gain_that_hangs_on_one_prompt_is_not_resolved() -> None:
    rows = [row("plain decoding", "", 1.0), row("lookahead", "training-free", 1.0)]
    rows[1]["seconds"] = [0.2, 2.0, 1.5, 0.01]
    assert claims(rows, False)[0].verdict == "not resolved"


def test_groups_have_goals_over_all_and_over_those_that_copy() -> None:
    rows = []
    for task, gain in (("chat", 1.0), ("rewriting", 3.0), ("code", 2.5)):
        rows += [
            row("plain decoding", "", 1.0, task=task),
            row("prompt lookup", "training-free", gain, task=task),
            row("prompt lookup, cost-aware", "training-free", min(gain, 0.9), task=task),
        ]
    all_groups, copying, floor, _ = claims(rows, True)
    assert all_groups.claim.startswith("all groups") and all_groups.holds
    assert copying.claim.startswith("rewriting and code") and copying.holds
    assert not floor.holds  # 0.9 in each group is below what was promised


def test_the_widened_target_has_goals_of_its_own() -> None:
    rows = [row("plain decoding", "", 1.0), row("eagle", "trained", 0.9)]
    rows += [row("plain decoding", "", 1.0, task="t, widened")]
    rows += [row("eagle", "trained", 2.0, task="t, widened")]
    assert [claim.holds for claim in claims(rows, False)[:2]] == [False, True]


def test_a_widened_target_writes_the_same_text() -> None:
    model = Transformer(small(21, hidden=32, layers=2), rngs=nnx.Rngs(0)).unstacked()
    field = Field("noise", model, model, (0,), PROMPTS[:2], 8)
    wide = replace(field, target=widened(field.target, field.target.config.mlp + 64))
    assert wide.target.cost.parameters > field.target.cost.parameters
    one, two = (decode(f.plain(), 0, f.batches(2)[0]).tokens for f in (field, wide))
    np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="mlp=8"):
        widened(field.target, 8)


def test_counts_are_those_of_the_result() -> None:
    target: Any = EnumerableLM.random(0, 21)
    field = Field("noise", target, target.perturbed(1, 0.5), (0,), PROMPTS, 12)
    decoder = METHODS["draft model"].decoder(field)
    results = [decode(decoder, 0, prompt) for prompt in field.batches(2)]
    found = counts(results, 3, 1.0)
    usage = [np.concatenate([getattr(r.usage, n) for r in results])[:3] for n in ("emitted",)]
    np.testing.assert_array_equal(found.emitted, usage[0])
    assert found.per_call == pytest.approx(found.emitted.sum() / found.passes.sum())
    assert found.verified * found.per_call == pytest.approx(1.0)
    assert len(found.tokens) == 3 and (found.histogram.sum() >= found.passes.sum())


def test_the_presets_name_methods_that_there_are() -> None:
    for preset in PRESETS.values():
        assert set(preset.methods) <= set(METHODS)
    assert isinstance(PRESETS["paper"], Config)
