"""One command from pairs or a reward to a policy: its KL, its folder, its page, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.commands.align import main as align
from experiments.commands.align.stages import Stages
from experiments.inputs import sources
from experiments.inputs.preference_files import read
from experiments.inputs.preference_rewards import Lesson, accuracy, batches, fitted
from models.checkpoints import load
from models.transformer import arrays_of
from tests.experiments import folders
from tests.experiments.forking import finished, on_eight_devices

WORDS = ("the cat sat", "one plus one", "two plus two", "is two", "is four", "on the mat")
KL = 0.4
SMALL = {
    "--max-tokens": 4,
    "--train-steps": 24,
    "--batch": 4,
    "--group": 4,
    "--base-samples": 16,
    "--held-out": 6,
    "--drawn": 8,
    "--samples": 2,
    "--reward-steps": 20,
    "--longest": 64,
    "--rate": 0.02,
    "--kl": KL,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    found = folders.build(root)
    pairs, asked = [], []
    for number in range(24):
        prompt = f"{WORDS[number % 3]} {number}"
        asked.append(json.dumps({"prompt": prompt}))
        good, bad = WORDS[3 + number % 3], WORDS[number % 3]
        pairs.append(json.dumps({"prompt": prompt, "chosen": f" {good}", "rejected": f" {bad}"}))
    for name, lines in (("pairs", pairs), ("prompts", asked)):
        found[name] = root / f"{name}.jsonl"
        found[name].write_text("\n".join(lines) + "\n")
    found["judge.py"] = root / "judge.py"
    found["judge.py"].write_text(
        "def short(prompt, text):\n    return -float(len(text))\n\n\ndef none():\n    return 0.0\n"
    )
    return found


def command(made: dict[str, Path], out: Path, **changes: object) -> list[str]:
    """The options of a run; None leaves one out."""
    named = {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    given = {"--model": made["generator"], "--preferences": made["pairs"], "--out": out}
    told = {name: value for name, value in (given | SMALL | named).items() if value is not None}
    parts = [(name, *(v if isinstance(v, tuple) else (v,))) for name, v in told.items()]
    return [str(part) for pair in parts for part in pair]


@pytest.fixture(scope="module")
def aligned(made, tmp_path_factory):
    """A whole run of the method that is aligned for its decoder: its folder."""
    out = tmp_path_factory.mktemp("run") / "out"
    align.main(command(made, out))
    return out


def weights(out: Path) -> dict[str, np.ndarray]:
    found = arrays_of(load(out / "policy"))
    return {name: np.asarray(array) for name, array in found.items()}


def result(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def test_a_policy_of_the_kl_that_was_asked_for(aligned, made) -> None:
    found = result(aligned)
    assert found["reached"] and found["kl"]["training"] == pytest.approx(KL, rel=0.3)
    assert found["kl"]["held out"] == pytest.approx(KL, rel=0.5), "on six other prompts"
    assert found["beta"] > 0 and set(found["accuracy"]) == {"reward", "judge"}
    base = arrays_of(load(made["generator"]))
    moved = {
        name: np.abs(new - np.asarray(base[name])).max() for name, new in weights(aligned).items()
    }
    assert min(moved.values()) > 0 and all(map(np.isfinite, moved.values()))
    sources.open_model(str(aligned / "policy"))  # others open it


@pytest.mark.slow
def test_a_run_on_a_mesh_goes_as_far_and_its_folder_opens_anywhere(made, aligned, tmp_path) -> None:
    """The base in parts, the prompts of a step and what is trained spread over eight devices. The
    rewards are those of one device; draws may differ by what sums round to."""
    out = tmp_path / "out"
    told = tmp_path / "said"
    line = command(made, out, mesh=(2, 4))
    assert finished(on_eight_devices, align.main, line, said=told) == 0, told.read_text()
    found, alone = result(out), result(aligned)
    assert found["reached"] and found["kl"]["training"] == pytest.approx(KL, rel=0.3)
    assert found["accuracy"] == alone["accuracy"]
    sources.open_model(str(out / "policy"))


def test_the_page_says_what_was_won_and_what_is_next(aligned) -> None:
    page, wins = (aligned / "index.html").read_text(), result(aligned)["wins"]
    assert {"by the judge", "win rate of"} <= set(wins[0])
    assert any("preferred replies" in row["win rate of"] for row in wins)
    for said in (
        "KL",
        "Side by side",
        "data:image/png",
        str(aligned / "policy"),
        wins[-1]["by the judge"],
    ):
        assert said in page, said


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(
    aligned, made, tmp_path, monkeypatch, capsys
) -> None:
    out, told = tmp_path / "out", Stages.__call__

    def until(stage_of_death: str, step: int):
        def call(self, stage, done, of, what):
            if (stage, done) == (stage_of_death, step):
                raise KeyboardInterrupt
            told(self, stage, done, of, what)

        return call

    for stage, step in (("base responses", 16), ("training", 9)):
        monkeypatch.setattr(Stages, "__call__", until(stage, step))
        with pytest.raises(SystemExit):
            align.main(command(made, out))
        assert "the same command goes on from there" in capsys.readouterr().err
    monkeypatch.setattr(Stages, "__call__", told)
    drawn = sorted((out / "training" / "drawn").iterdir())
    times = [path.stat().st_mtime_ns for path in drawn]
    align.main(command(made, out))
    assert times == [path.stat().st_mtime_ns for path in drawn], "nothing is drawn twice"
    for name, array in weights(aligned).items():
        np.testing.assert_array_equal(array, weights(out)[name], err_msg=name)
    mine, whole = result(out), result(aligned)
    assert mine["worth"] == whole["worth"] and mine["wins"] == whole["wins"]


def test_another_run_does_not_go_on_in_the_folder(aligned, made, tmp_path) -> None:
    said = refusal(*command(made, aligned, seed=1))
    assert "holds another run: it differs in seed (0 there, 1 here)" in said
    (tmp_path / "letter.txt").write_text("dear reader")
    assert "is there and holds no run of align" in refusal(*command(made, tmp_path))


def test_pairs_lead_to_the_kl_too(made, tmp_path) -> None:
    """By DPO on one's own pairs, deployed as one sample, with a function of text as reward."""
    reward = f"{made['judge.py']}:short"
    changes = {"method": "dpo", "decoder": "sample", "samples": None, "reward": reward}
    align.main(command(made, tmp_path / "out", **changes))
    found = result(tmp_path / "out")
    assert found["kl"]["training"] == pytest.approx(KL, rel=0.3) and found["beta"] is None
    assert [row["by"] for row in found["worth"]] == ["one sample", "one sample"]
    assert set(found["accuracy"]) == {"judge"}


def test_a_head_alone_learns_to_rank(made) -> None:
    """The backbone stays the base's, array for array."""
    source = sources.open_model(str(made["generator"]))
    lesson = Lesson(steps=60, longest=64, leave_out=False, seed=0, frozen=True)
    pairs = read(made["pairs"])
    model = fitted(source, pairs, lesson, 0, None)
    assert accuracy(model, batches(source, pairs, lesson)) > 0.9
    assert model.backbone.embedding[...] is source.model.embedding[...]


def test_chats_rendered_together_are_those_rendered_alone(made) -> None:
    codec = sources.open_model(str(made["generator"])).codec
    talk = [{"role": "user", "content": "two plus two"}]
    whole = codec.with_chats(["the cat", talk])
    said = [{"role": "user", "content": "the cat"}]
    assert whole.prompt("the cat") == codec.prompt(said) != codec.prompt("the cat")
    assert whole.prompt(talk) == codec.prompt(talk)
    assert whole.prompt("one plus") == codec.prompt("one plus"), "others are read as before"


def refusal(*options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        align.main(list(options))
    return str(stop.value.code)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--preferences": None}, "give either --preferences or --prompts"),
        ({"--preferences": "gone.jsonl"}, "gone.jsonl is no file"),
        ({"--preferences": "{root}/bad.jsonl"}, "bad.jsonl:2: no JSON"),
        ({"--preferences": "{root}/empty.jsonl"}, "empty.jsonl is empty"),
        ({"--model": "nothing"}, "'nothing' is neither a folder"),
        ({"--mesh": ("3", "1")}, "--batch 4: prompts of a step are shared by the 3 groups"),
        ({"--mesh": ("1", "1"), "--method": "dpo"}, "--mesh: method dpo trains on one device"),
        ({"--kl": "0"}, "--kl 0.0: the divergence to be reached is a positive number"),
        ({"--kl": "nan"}, "--kl nan: "),
        ({"--rate": "-1"}, "--rate -1.0: a learning rate is positive"),
        ({"--group": "1"}, "--group 1: 2 or more is needed"),
        ({"--batch": "40"}, "--batch 40: there are 18 prompts to train on"),
        ({"--held-out": "23"}, "24 prompts; 23 are held out and 2 more are needed"),
        ({"--samples": "9"}, "--samples 9: --drawn and --base-samples must be as many"),
        ({"--reward": "{root}/judge.py:none"}, "none"),
        ({"--reward": "{root}/judge.py:gone"}, "defines no function 'gone'"),
        ({"--reward": "{root}/critic"}, "tokenizer"),
        ({"--reward": "likelihood"}, "--reward likelihood: it is the base's own"),
        ({"--judge": "nothing"}, "'nothing' is neither a folder"),
        ({"--longest": "8"}, "pairs.jsonl:1: "),
        ({"--max-tokens": "90"}, "pairs.jsonl:1: "),
        ({"--beams": "2"}, "--beams does nothing for --decoder best-of-n"),
        ({"--decoder": "step-beams"}, "--decoder step-beams needs --process-reward"),
        ({"--decoder": "speculative-rejection"}, "needs --budget"),
        ({"--preferences": None, "--prompts": "{root}/prompts.jsonl"}, "--reward is needed with"),
        ({"--lora": "99"}, "rank=99"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_any_compute(
    made, tmp_path, monkeypatch, change, message
) -> None:
    from algorithms.alignment import base
    from experiments.commands.align import rewards

    root, out = made["pairs"].parent, tmp_path / "out"
    (root / "bad.jsonl").write_text(made["pairs"].read_text().splitlines()[0] + "\n{\n")
    (root / "empty.jsonl").write_text("")
    # In the modules that call them: one that is first imported here would keep what stands here.
    for module, name in ((base, "draw"), (rewards, "fitted")):
        monkeypatch.setattr(module, name, None)
    named = {
        k[2:].replace("-", "_"): v.format(root=root) if isinstance(v, str) else v
        for k, v in change.items()
    }
    said = refusal(*command(made, out, **named))
    assert message in said and said.startswith("error: ") and not (out / "rewards").exists()
