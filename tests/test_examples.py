"""The examples of writing one's own part are short, run, and do what they say."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness.report import Report
from experiments.harness.running import run_main
from jaxdecode.decoder import decode
from jaxdecode.plain import Autoregressive
from jaxdecode.process_reward import StepFunction
from jaxdecode.result import Status
from jaxdecode.steps import StepSampler
from jaxdecode.stop import Stop
from tests.examples import drafter, experiment, logits_transform, scorer, search, verifier
from tests.examples.settings import generator, prompt

LINES = 40
EXAMPLES = sorted((Path(__file__).parent / "examples").glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def plain():
    return decode(Autoregressive(generator()), key=0, prompt=prompt())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


def test_a_transform_of_ones_own() -> None:
    free, barred = logits_transform.run(0.0), logits_transform.run(jnp.inf)

    def echoes(result) -> int:
        pairs = zip(result.tokens[:, 1:], result.tokens, result.length, strict=False)
        return sum(int((a[: n - 1] == b[: n - 1]).sum()) for a, b, n in pairs)

    assert echoes(free) > 0 == echoes(barred)


def test_a_drafter_and_a_verifier_of_ones_own_are_exact(plain) -> None:
    for found in (drafter.run(generator(), prompt()), verifier.run(generator(), prompt())):
        np.testing.assert_array_equal(found.tokens, plain.tokens)
        assert int(found.usage.drafted.sum()) > 0
    assert int(found.usage.histogram[:, 2:].sum()) == 0, "never more than one accepted"
    far = verifier.run(generator(), prompt(), most=4)
    assert int(far.usage.accepted.sum()) > int(found.usage.accepted.sum()) > 0


def test_a_scorer_of_ones_own_finds_variety(plain) -> None:
    best = scorer.run(generator(), prompt())
    for row in range(2):
        own = [set(r.tokens[row, : r.length[row]].tolist()) for r in (best, plain)]
        assert len(own[0]) >= len(own[1])


def test_a_search_of_ones_own_ends_with_its_best_response() -> None:
    def brief(prompt, prompt_length, tokens, length):
        return 1.0 / length

    steps = StepSampler(generator(), Stop.of(3), width=4, depth=6)
    run = jax.jit(lambda key: search.run(steps, StepFunction(brief), key, prompt()))
    assert (run(jax.random.key(0)).status == Status.EOS).all()


def test_an_experiment_of_ones_own_writes_its_result(tmp_path: Path, monkeypatch) -> None:
    run_main(experiment.run, experiment.PRESETS, ["--preset", "smoke", "--out", str(tmp_path)])
    report = Report.read(tmp_path / "result.json")
    assert report.experiment == "experiment" and len(report.rows) == 2
    assert (tmp_path / "figure.png").is_file()
