"""AdaDec, lists and lexical units from the command line: their numbers, files and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from algorithms.tokens.threshold import Threshold
from experiments.commands.generate import main as generate
from experiments.inputs import sources
from experiments.tokens.adadec.reading import weights_of
from models import export
from models.placeholder import with_placeholder
from tests.experiments.folders import build

TEXTS = ("one plus one", "the cat")
LEARNED = Threshold(0.0, -1.0, 0.0, 0.5, 0.5, 0.5, 100)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """`longer` is the generator with a row for a placeholder."""
    root = tmp_path_factory.mktemp("checkpoints")
    found = build(root)
    model, _ = with_placeholder(sources.open_model(str(found["generator"])).model)
    export.save(model, root / "longer", family="llama", tokenizer=root / "files")
    return found | {"longer": root / "longer"}


def answers(model: Path, output: Path, *options: str) -> list[dict]:
    base = ["--model", str(model), "--max-tokens", "6", "--batch", "2", "--prompts", *TEXTS]
    generate.main([*base, "--output", str(output), *options])
    return [json.loads(line) for line in output.read_text().splitlines()]


def texts(records: list[dict]) -> dict[int, list[int]]:
    return {record["id"]: record["tokens"] for record in records}


def test_adadec_looks_ahead_from_its_threshold_on(folders, tmp_path: Path) -> None:
    model, adadec = folders["generator"], ["--decoder", "adadec", "--threshold"]
    plain = answers(model, tmp_path / "plain", "--decoder", "greedy")
    never = answers(model, tmp_path / "never", *adadec, "inf")
    assert texts(never) == texts(plain)
    file = tmp_path / "threshold.json"
    file.write_text(replace(LEARNED, model=weights_of(model)).dumps())
    always = answers(model, tmp_path / "always", *adadec, str(file), "--ahead", "2")
    zero = answers(model, tmp_path / "zero", *adadec, "0", "--ahead", "2")
    assert texts(always) == texts(zero)
    for one, other in zip(always, plain, strict=True):
        assert one["usage"]["target_tokens"] > 3 * other["usage"]["target_tokens"]
    assert always[0]["settings"]["threshold"] == str(file) and always[0]["settings"]["ahead"] == 2


def test_lists_are_explored(folders, tmp_path: Path) -> None:
    """The first item is the greedy text; every item begins with a token of its own."""
    model, list_of = folders["generator"], ["--decoder", "icn", "--samples", "3", "--stop", "e"]
    plain = answers(model, tmp_path / "plain", "--decoder", "greedy", "--stop", "e")
    found = answers(model, tmp_path / "icn", *list_of, "--return", "3", "--between", " and {}: ")
    assert texts(found) == texts(plain)
    for one, other in zip(found, plain, strict=True):
        assert one["text"] == one["texts"][0] == other["text"]
        assert one["settings"]["samples"] == 3 and len(set(one["texts"])) == len(one["texts"]) > 1
    waves = answers(model, tmp_path / "waves", *list_of, "--wave", "3", "--candidates", "3")
    assert texts(waves) == texts(plain)


def test_units_are_said_by_a_model_that_has_a_placeholder(folders, tmp_path: Path) -> None:
    model = folders["longer"]
    pad = str(sources.open_model(str(model)).model.vocab_size)
    plain = answers(model, tmp_path / "plain", "--decoder", "greedy")
    lud = ["--decoder", "lud", "--placeholder", pad, "--span", "3"]
    sure = answers(model, tmp_path / "sure", *lud, "--confidence", "1.5")
    assert texts(sure) == texts(plain)  # nothing is that sure
    free = answers(model, tmp_path / "free", *lud, "--confidence", "0")
    passes = [sum(r["usage"]["target_passes"] for r in rows) for rows in (free, plain)]
    assert passes[0] < passes[1]
    drafts = ["--draft", "placeholders", "--placeholder", pad, "--confidence", "0", "--span", "3"]
    exact = answers(model, tmp_path / "exact", "--decoder", "greedy", *drafts)
    assert texts(exact) == texts(plain)
    assert sum(record["usage"]["drafted"] for record in exact) > 0


def test_refusals(folders, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(replace(LEARNED, model="0" * 64).dumps())
    text = tmp_path / "text.json"
    text.write_text("nothing")
    for options, complaint in (
        (["adadec", "--threshold", str(file)], "learned from the model 000000000000..., not"),
        (["adadec", "--threshold", str(text)], "no stored threshold"),
        (["adadec", "--threshold", "nowhere"], "neither nats nor a file"),
        (["adadec", "--threshold", "-1"], "threshold=-1"),
        (["adadec", "--threshold", "1", "--candidates", "0"], "branch=0"),
        (["icn"], "--decoder icn needs --stop"),
        (["icn", "--stop", "e", "--wave", "3"], "--wave 3 does not divide --samples 10"),
        (["icn", "--stop", "e", "--samples", "0"], "--samples 0: a list has"),
        (["icn", "--stop", "e", "--candidates", "0"], "among=0"),
        (["lud", "--placeholder", "3"], "placeholder=3: a placeholder is a row"),
        (["lud", "--placeholder", "280"], "none in this model"),
        (["greedy", "--draft", "placeholders", "--placeholder", "280"], "none in this model"),
    ):
        with pytest.raises(SystemExit) as stop:
            answers(folders["generator"], tmp_path / "a", "--decoder", *options)
        assert complaint in str(stop.value.code), options
