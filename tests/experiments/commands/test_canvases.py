"""Canvases from the command line: what fills them, what is shown, what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from algorithms.diffusion import oracle
from algorithms.diffusion.choosers import EntropyBounded, Factor, Threshold
from algorithms.diffusion.filter import Filter, fingerprint, loss
from experiments.commands.decoding.rules import Rules
from experiments.commands.decoding.uses import USES, Name
from experiments.commands.generate import main as generate
from experiments.commands.generate import watching
from experiments.commands.generate.answers import Job
from experiments.commands.generate.options import Options
from experiments.commands.generate.running import prepare
from experiments.inputs import sources
from jaxdecode.canvas_stream import views
from jaxdecode.choose import Even, Fixed, Top
from jaxdecode.decoder import decode
from jaxdecode.ending import EndOfText
from jaxdecode.logits import Temperature
from jaxdecode.paper import citation
from jaxdecode.plain import Autoregressive
from jaxdecode.prompt import Prompt
from jaxdecode.sampling import Categorical, Greedy

BASE = ["--model", "denoiser", "--max-tokens", "8", "--form", "scanned"]
ASKED = "copy | A B C D _ _ :"


def answers(output: Path, *options: str) -> list[dict]:
    generate.main([*BASE, "--output", str(output), *options])
    return [json.loads(line) for line in output.read_text().splitlines()]


def refusal(*options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        generate.main(list(options))
    return str(stop.value.code)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("lessons") / "lessons.txt"
    path.write_text("copy | B C A _ _ _ :\ncopy | D A B C E _ :\n")
    return str(path)


def test_a_filter_is_trained_by_the_lessons(lessons: str) -> None:
    made = generator("learn2pd", lessons=lessons, threshold=0.8)
    filter = made.chooser.filter
    assert (made.chooser.threshold, filter.block) == (0.8, 4) and made.ending == EndOfText()
    assert filter.model == fingerprint(made.denoiser)
    assert np.abs(filter.layers[0][0] - Filter.random(0, 4).layers[0][0]).max() > 0.1
    two = Path(lessons).read_text().splitlines()
    asked = Prompt.of([sources.open_denoiser("denoiser").codec.prompt(text) for text in two])
    learned = oracle.lesson(made, jax.random.key(0), asked)
    start = loss(Filter.random(0, 4), learned)
    assert float(loss(filter, learned)) < 0.5 * float(start)


def generator(name: Name, **rules: Any) -> Any:
    """What fills the canvas."""
    made = job(name, **rules).decoder
    assert isinstance(made, Autoregressive)
    return made.generator


@pytest.mark.parametrize(
    ("name", "given", "rule"),
    [
        ("fast-dllm", {"threshold": 0.7}, Threshold(0.7)),
        ("factor", {}, Factor(1.0)),
        ("entropy-bounded", {"threshold": 0.01}, EntropyBounded(0.01)),
        ("fixed-k", {"steps": 4}, Top(Even(2))),
        ("left-to-right", {}, Top(Fixed(1), "left")),
        ("freedave", {"steps": 4}, Top(Fixed(2))),
    ],
)
def test_a_name_is_the_rule_it_says(name: Name, given: dict, rule: Any) -> None:
    made = generator(name, cache="dual", **given)
    unmasker = made.unmasker if name == "freedave" else made
    assert unmasker.chooser == rule and unmasker.sampler == Greedy()
    assert (unmasker.max_tokens, unmasker.block, unmasker.cache) == (8, 4, "dual")
    if name == "freedave":
        assert (made.drafts, made.growth) == (4, 2)
    elif "threshold" not in USES[name]:
        warm = generator(name, temperature=0.5, block=None)
        assert (warm.transform, warm.sampler) == (Temperature(0.5), Categorical())
        assert (warm.block, warm.cache) == (8, "none")


def job(name: Name, **rules: Any) -> Job:
    rules = {"max_tokens": 8, "block": 4, **rules}
    options = Options(model="denoiser", prompts=(ASKED,), rules=Rules(**rules), form="scanned")
    return prepare(options, name)


@pytest.mark.parametrize("name", ["left-to-right", "freedave"])
def test_views_end_in_what_decoding_gives(name: Name) -> None:
    made = job(name)
    prompt = Prompt.of([made.tokens[0]])
    *before, last = views(generator(name), 0, prompt)
    expected = jax.device_get(decode(made.decoder, 0, prompt))
    assert last.result is not None and all(view.result is None for view in before)
    for ours, theirs in zip(
        jax.tree.leaves((last.result.tokens, last.result.status, last.result.usage)),
        jax.tree.leaves((expected.tokens, expected.status, expected.usage)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    for one, other in zip(before, [*before[1:], last], strict=True):
        assert not (other.open & ~one.open).any(), "what is filled stays filled"
        assert (other.tokens == one.tokens)[~one.open].all()
    start = len(made.tokens[0])
    assert before[0].open[0, start : start + 8].all() and (before[0].decided == -1).all()
    if name == "left-to-right":
        assert last.decided[0, start : start + 5].tolist() == [0, 1, 2, 3, 4]


def test_a_terminal_shows_masks_and_a_pipe_the_text(capsys, tmp_path: Path) -> None:
    made = job("left-to-right")
    options = ["--decoder", "left-to-right", "--block", "4", "--prompts", ASKED]
    shown, piped = io.StringIO(), io.StringIO()
    watching.show(made, Console(file=shown, force_terminal=True, width=80))
    watching.show(made, Console(file=piped))
    (text,) = piped.getvalue().splitlines()
    assert text.strip() == "A B C D" and shown.getvalue().endswith(piped.getvalue())
    for seen in (" ".join([watching.OPEN] * 8), " ".join(["A", "B", *[watching.OPEN] * 6])):
        assert seen in shown.getvalue() and seen not in piped.getvalue()
    folder = str(sources.folder_of("denoiser"))  # as any published one
    generate.main([*BASE, "--model", folder, *options, "--stream"])
    assert capsys.readouterr().out == piped.getvalue()
    (record,) = answers(tmp_path / "a.jsonl", *options)
    assert record["text"] == piped.getvalue()[:-1] and record["status"] == "eos"
    assert record["settings"] == {"decoder": "left-to-right", "max_tokens": 8, "block": 4}
    # Five tokens are written, A B C D and an end; the rest of the block need not be filled.
    assert record["usage"]["target_passes"] == record["usage"]["emitted"] == 5


def test_papers_behind_a_canvas_are_cited() -> None:
    assert "2510.00294" in citation(job("freedave").decoder)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--decoder", "sample"], "denoiser is a denoiser: it fills masks and continues no text"),
        (["--decoder", "beam-search"], "give --decoder fast-dllm"),
        (["--decoder", "fixed-k", "--model", "arithmetic"], "arithmetic writes from left to right"),
        (["--decoder", "fixed-k", "--block", "3"], "--block 3 does not divide --max-tokens 8"),
        (["--decoder", "fixed-k", "--block", "2", "--steps", "6"], "give a multiple of 4"),
        (["--decoder", "freedave", "--steps", "3"], "give a divisor of --max-tokens 8"),
        (["--decoder", "fixed-k", "--steps", "0"], "--steps 0: give at least 1"),
        (["--decoder", "fast-dllm", "--threshold", "1.5"], "give a probability, 0 to 1"),
        (["--decoder", "factor", "--threshold", "-1"], "0 or more"),
        (["--decoder", "learn2pd"], "needs --lessons"),
        (["--decoder", "learn2pd", "--lessons", "nowhere.txt"], "nowhere.txt is no file"),
        (["--decoder", "factor", "--temperature", "1"], "--temperature does nothing"),
        (["--decoder", "sample", "--cache", "dual"], "--cache does nothing for --decoder sample"),
        (["--decoder", "fixed-k", "--max-tokens", "4096"], "exceed the 2048 tokens"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: list[str], complaint: str) -> None:
    assert complaint in refusal(*BASE, "--prompts", ASKED, *options)
