"""The experiment on ParallelBench: its smallest run, its measures by hand, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.diffusion.parallelbench import law
from experiments.diffusion.parallelbench import grid, main, measured
from experiments.diffusion.parallelbench.claims import mixed, reflected
from experiments.diffusion.parallelbench.findings import Findings
from experiments.diffusion.parallelbench.grid import Cell, Grid
from experiments.diffusion.parallelbench.main import PRESETS, claims, run
from experiments.diffusion.parallelbench.setting import MEASURED, Config, Setting
from experiments.harness.files import compact
from experiments.harness.judging.claim import Claim
from experiments.harness.statistics import Estimate
from experiments.tasks.canvas.lists import OPERATIONS, right
from tests.experiments.harness.records import same_again


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting.of(PRESETS["smoke"])


def test_smoke(tmp_path: Path) -> None:
    """The known laws hold on every seed; what the denoiser does is reported, not promised."""
    config = replace(PRESETS["smoke"], out=tmp_path)
    report = run(config)
    assert report.claims[0].holds and report.claims[0].claim.startswith("an ideal model")
    assert same_again(report, main, config).rows
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    cells = [row for row in report.rows if row["part"] == "grid"]
    assert len(cells) == len(list(grid.cells(PRESETS["smoke"])))
    sequential = next(row for row in cells if row["policy"] == "left to right")
    whole = next(row for row in cells if row["value"] == 8 and row["policy"].startswith("top k"))
    assert whole["tokens per step"] == 8 and sequential["tokens per step"] == 1
    bits = [row for row in report.rows if row["part"] == "divergence"]
    assert all(row["at once"] >= row["bound"] - 1e-3 for row in bits)


def test_texts_of_a_question_are_its_right_answers(setting: Setting) -> None:
    """Every text of the law, spelled in the question's own items, passes the rule."""
    for operation in ("replace_random", "shuffle", "copy", "replace_index"):
        (example,) = setting.questions(operation, 1, 3)
        found = law(measured.ideal(operation), 3, identity=operation != "shuffle")
        for text in measured.spelled(setting, operation, example, found):
            words = setting.text.decode(text.tolist()).split()
            assert setting.tasks[operation].verify(example.prompt, " ".join(words)) == 1
    (example,) = setting.questions("shuffle", 1, 3)
    assert not right(measured.parse(example.prompt), measured.parse(example.prompt).items)


def test_answers_stand_right_behind_their_prompts(setting: Setting) -> None:
    some = setting.questions("copy", 1, 3) + setting.questions("insert_index", 1, 4)
    prompt = setting.prompts(some)
    answers = np.array([[30, 31, 32], [33, 34, 35]])
    canvas = measured.canvases(prompt, prompt.tokens.shape[1] + 3, answers)
    for row in range(2):
        length = int(prompt.length[row])
        tokens = np.asarray(canvas.tokens[row])
        np.testing.assert_array_equal(tokens[:length], prompt.tokens[row, :length])
        np.testing.assert_array_equal(tokens[length : length + 3], answers[row])
        assert canvas.answer[row].sum() == 3 and canvas.length[row] == length + 3


def table() -> Grid:
    """Two cells of a policy and one of another, four questions."""
    cells = [Cell("threshold", 0.9, 16), Cell("threshold", 0.5, 16), Cell("top k, random", 16, 16)]
    rows: dict[Cell, dict[str, Any]] = {
        cells[0]: {"right": [True, True, True, False], "passes": [8, 8, 8, 8]},
        cells[1]: {"right": [True, False, False, False], "passes": [2, 2, 2, 2]},
        cells[2]: {"right": [False] * 4, "passes": [1] * 4},
    }
    return Grid.of(rows, 16, [4, 4, 6, 6], ["copy", "copy", "shuffle", "shuffle"])


def test_mixing_two_cells_has_their_mean_speed() -> None:
    found = table()
    chosen = found.of_policy("threshold", 16)
    assert found.speed[chosen].mean(axis=1).tolist() == [2, 8]
    np.testing.assert_allclose(mixed(found, chosen, 5.0), [1, 0.5, 0.5, 0])
    np.testing.assert_allclose(mixed(found, chosen, 1.0), [1, 1, 1, 0])
    np.testing.assert_allclose(mixed(found, chosen, 9.0), 0)
    mean, accuracy = found.oracle()
    # One question is right at 8, two at 2; the last, right nowhere, goes at 16.
    assert mean[0] == (8 + 2 + 2 + 16) / 4 and accuracy[0] == 0.75
    assert mean[-1] == 16 and accuracy[-1] == 0
    shown = found.rows()
    assert shown[0]["copy"] == 1 and shown[0]["shuffle"] == 0.5
    assert shown[2]["of the answer"] == 5


COUNTS = {1: (20, 20, 20, 18), 6: (20, 19, 8, 0)}  # right of 20: as MEASURED


def findings(counts: dict[int, tuple[int, ...]] = COUNTS, noise: float = 0.1, **known: Any) -> Any:
    """What a denoiser that has learned the operations comes to."""
    asked = {
        k: {name: (np.arange(20) < n).tolist() for name, n in zip(MEASURED, counts[k], strict=True)}
        for k in counts
    }
    wave = noise * np.linspace(-1, 1, 20)
    bits = [{"task": "shuffle", "bound": 6.0, "at once": 6.2 + 0 * wave, "one by one": 0.2 + wave}]
    row = {"policy": "factor", "task": "replace_random", "accuracy": 1.0, "closed form": 1.0}
    rows = [
        row | {"passes": 2.0, "steps by formula": 2} | known,
        row | {"policy": "random order, drawn", "p": 0.4, "k": 1},
    ]
    names = np.repeat(OPERATIONS, 16)
    every = np.arange(len(names))
    cells = [
        Cell("threshold", 0.9, 16),
        Cell("threshold", 0.5, 16),
        Cell("top k, confidence", 4, 16),
    ]
    first = np.isin(names, OPERATIONS[:5])
    right = np.stack([first | (every % 2 == 0), ~first, every % 8 == 0])
    passes = np.array([[3], [2], [4]]) + 0 * every
    used = np.full(len(names), 5)
    return Findings(Config(), rows, asked, bits, Grid(cells, right, passes, 16, used, names), None)


def judged(found: Findings) -> list[Claim]:
    """By what a record keeps of it."""
    return claims(found.config, compact(found.evidence))


def verdict(found: Findings, start: str) -> str:
    (claim,) = [claim for claim in judged(found) if claim.claim.startswith(start)]
    return claim.verdict


def test_claims_hold_where_they_should() -> None:
    first, *others = [claim.verdict for claim in judged(findings())]
    assert first == "sanity" and set(others) == {"holds"}


def test_what_few_questions_leave_open() -> None:
    wide = findings(noise=4.0)
    assert verdict(wide, "what deciding all at once costs") == "not resolved"
    below = replace(wide, bits=[wide.bits[0] | {"at once": [5.9] * 20}])
    assert verdict(below, "what deciding all at once costs") == "fails"
    half = findings({1: (20, 11, 10, 18), 6: (20, 10, 8, 0)})
    assert verdict(half, "one place at a time") == "not resolved"
    assert verdict(half, "with 6 places at once replace_random") == "not resolved"
    assert reflected(Estimate(3.0, 2.0, 8.0)) == Estimate(3.0, -2.0, 4.0)


@pytest.mark.parametrize(
    ("changed", "start"),
    [
        ({"steps by formula": 3}, "an ideal model"),
        ({"accuracy": 0.0}, "an ideal model"),
        # Neither is learned: they are alike, and there is nothing to lose.
        ({"counts": {1: (20, 0, 0, 18), 6: (20, 0, 0, 0)}}, "one place at a time"),
        ({"counts": {1: (20, 20, 20, 0), 6: (20, 19, 8, 0)}}, "with 6 places at once shuffle"),
        ({"counts": {1: (20, 20, 20, 18), 6: (9, 9, 8, 0)}}, "copying and replacing"),
    ],
)
def test_claims_fail_where_they_should(changed: dict[str, Any], start: str) -> None:
    assert verdict(findings(**changed), start) == "fails"


def test_policies_that_are_near_the_best() -> None:
    found = findings()
    grid = replace(found.grid, right=np.ones_like(found.grid.right))
    alike = replace(found, grid=grid)
    for start in ("from two tokens", "at 4.0 tokens a step every"):
        assert verdict(alike, start) == "fails"
    assert verdict(alike, "at 4.0 tokens a step a") == "not resolved"


def test_a_step_decides_no_more_than_a_block() -> None:
    every = list(grid.cells(Config()))
    assert len(every) == len(set(every))
    assert all(c.value <= c.block for c in every if c.policy.startswith("top k"))
    assert {c.policy for c in every} >= {"threshold", "factor", "entropy bound", "left to right"}
    assert {c.block for c in every} == {4, 16}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"blocks": (5,)}, "blocks="),
        ({"blocks": ()}, "blocks="),
        ({"steps": (1, 7)}, "steps="),
        ({"steps": (2, 6)}, "steps="),
        ({"questions": 0}, "questions=0"),
        ({"orders": ()}, "orders"),
        ({"data": Path("files")}, "reads no English"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Config(**changes)


def test_models_that_are_no_denoisers() -> None:
    with pytest.raises(ValueError, match="no denoiser"):
        Setting.of(Config(denoiser="arithmetic"))
    with pytest.raises(ValueError, match="neither a folder nor one of"):
        Setting.of(Config(denoiser="nowhere"))
    assert set(Setting.of(Config()).tasks) == set(OPERATIONS)
