"""A file of preferences trains a reward and a judge, a policy is aligned to it, leaves as a
published checkpoint, and is opened by whatever opens one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.alignment.infalign.main import PRESETS, run
from experiments.bench import race
from experiments.commands.generate import main as generate
from experiments.inputs import sources
from experiments.inputs.preference_files import read
from experiments.inputs.preference_rewards import Lesson, fitting
from models.checkpoints import load
from models.transformer import arrays_of
from tests.experiments import folders

WORDS = ("the cat sat", "one plus one", "two plus two", "is two", "is four", "on the mat")
LESSON = Lesson(steps=4, longest=64, leave_out=False, seed=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    found = folders.build(root)
    lines = []
    for number in range(24):
        head = f"\n\nHuman: {WORDS[number % 3]} {number}\n\nAssistant:"
        good, bad = WORDS[3 + number % 3], WORDS[number % 3]
        lines.append(json.dumps({"chosen": f"{head} {good}", "rejected": f"{head} {bad}"}))
    found["pairs"] = root / "pairs.jsonl"
    found["pairs"].write_text("\n".join(lines) + "\n")
    return found


@pytest.fixture(scope="module")
def aligned(made, tmp_path_factory):
    """The whole chain, at its smallest: (report, folder of the run)."""
    out = tmp_path_factory.mktemp("run")
    config = dataclasses.replace(
        PRESETS["smoke"],
        generator=str(made["generator"]),
        preferences=made["pairs"],
        longest=64,
        reward_steps=8,
        methods=("identity",),
        kls=(0.3,),
        prompts=8,
        judged=4,
        samples=16,
        drawn=8,
        group=4,
        steps=4,
        max_tokens=4,
        out=out,
    )
    with pytest.warns(UserWarning, match="samples=16 base responses a prompt leave"):
        return run(config), out


def test_a_preference_file_runs_the_whole_chain(aligned) -> None:
    report, out = aligned
    (row,) = [row for row in report.rows if row["part"] == "trained"]
    assert row["kl"] >= 0 and 0 < row["best-of-4, judge"] < 1
    ranked = {row["method"]: row["accuracy"] for row in report.rows if row["part"] == "preferences"}
    assert set(ranked) == {"reward model", "judge model"}
    assert all(0 <= share <= 1 for share in ranked.values())
    assert (out / "figure.png").is_file() and re.fullmatch("[0-9a-f]{64}", row["sha256"])


def test_the_policy_is_a_checkpoint_that_others_open(aligned, made, tmp_path) -> None:
    """By `generate`, whose text is the policy's own greedy choice, and by `bench`."""
    folder = aligned[1] / "policy"
    before, after = (arrays_of(load(where)) for where in (made["generator"], folder))
    moved = [np.abs(np.asarray(before[name]) - np.asarray(after[name])).max() for name in before]
    assert max(moved) > 0 and all(np.isfinite(moved))
    answers = tmp_path / "answers.jsonl"
    command = ["--model", str(folder), "--decoder", "greedy", "--output", str(answers)]
    generate.main([*command, "--prompts", "one plus", "--max-tokens", "3"])
    (record,) = map(json.loads, answers.read_text().splitlines())
    source = sources.open_model(str(folder))
    text = list(source.codec.prompt("one plus"))
    for token in record["tokens"]:
        logits, _ = source.model.forward(jnp.asarray([text]))
        assert int(np.argmax(np.asarray(logits)[0, -1])) == token
        text.append(token)
    built = race.build(str(folder), seed=0)
    got, _ = built.forward(jnp.asarray([text]))
    np.testing.assert_allclose(got, source.model.forward(jnp.asarray([text]))[0], atol=1e-5)


def test_what_does_not_fit_is_named_or_counted(made, capsys) -> None:
    source, pairs = sources.open_model(str(made["generator"])), read(made["pairs"])
    assert fitting(made["pairs"], pairs, source, LESSON, 92) == pairs
    short = dataclasses.replace(LESSON, longest=8)
    with pytest.raises(
        ValueError, match=r"pairs\.jsonl:1: \d+ tokens of prompt, .* at most 92 and 8"
    ):
        fitting(made["pairs"], pairs, source, short, 92)
    with pytest.raises(ValueError, match=r"pairs\.jsonl:1: .* expected at most 3 and 64: raise"):
        fitting(made["pairs"], pairs, source, LESSON, 3)
    aloud = dataclasses.replace(short, leave_out=True)
    assert fitting(made["pairs"], pairs, source, aloud, 92) == []
    assert "24 of 24 pairs left out, too long" in capsys.readouterr().out


def test_a_file_of_too_few_prompts_is_refused(made) -> None:
    config = dataclasses.replace(
        PRESETS["smoke"], generator=str(made["generator"]), preferences=made["pairs"], judged=40
    )
    with pytest.raises(ValueError, match=r"pairs\.jsonl: 24 prompts; 40 are held out and 2 more"):
        run(config)
