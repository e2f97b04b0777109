"""The experiment on ParallelBench: its smallest run, its measures by hand, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.diffusion.parallelbench import law
from experiments.diffusion.parallelbench import grid, measured
from experiments.diffusion.parallelbench.findings import mixed
from experiments.diffusion.parallelbench.grid import Cell, Grid
from experiments.diffusion.parallelbench.main import PRESETS, run
from experiments.diffusion.parallelbench.setting import Config, Setting
from experiments.harness.report import Report
from experiments.tasks.canvas.lists import OPERATIONS, right


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting.of(PRESETS["smoke"])


def test_smoke(tmp_path: Path) -> None:
    """The known laws hold on every seed; what the denoiser does is reported, not promised."""
    report = run(replace(PRESETS["smoke"], out=tmp_path))
    assert report.claims[0].holds and report.claims[0].claim.startswith("an ideal model")
    report.write(tmp_path)
    assert Report.read(tmp_path / "result.json").rows
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    cells = [row for row in report.rows if row["part"] == "grid"]
    assert len(cells) == len(list(grid.cells(PRESETS["smoke"])))
    sequential = next(row for row in cells if row["policy"] == "left to right")
    whole = next(row for row in cells if row["value"] == 8 and row["policy"].startswith("top k"))
    assert whole["tokens per step"] == 8 > sequential["tokens per step"] >= 1
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
