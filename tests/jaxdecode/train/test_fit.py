"""The training loop: it learns, it survives being killed, and it never saves nonsense."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxdecode.train.accumulate import Accumulate
from jaxdecode.train.fit import Checkpoints, fit
from jaxdecode.train.update import updater
from tests.jaxdecode.train.problem import (
    EVERY,
    STEPS,
    Line,
    batches,
    loss,
    optimizer,
    train,
    weights,
)

ROOT = Path(__file__).resolve().parents[3]
PROBLEM = "tests.jaxdecode.train.problem"


def saved(folder: Path) -> list[int]:
    """The steps whose checkpoints are complete."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[list[bytes], Path]:
    """Weights and folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return weights(train(folder)), folder


def test_the_loss_falls_to_the_noise() -> None:
    seen: list[tuple[int, float]] = []
    given = Line(nnx.Rngs(0))
    model = train(None, watch=lambda step, mean: seen.append((step, mean["loss"])), model=given)
    assert [step for step, _ in seen] == list(range(EVERY, STEPS + 1, EVERY))
    assert seen[0][1] > 1 > 0.05 > seen[-1][1]
    wanted = np.arange(8).reshape(4, 2) / 8
    np.testing.assert_allclose(model.weight[...], wanted, atol=0.2)
    np.testing.assert_allclose(model.bias[...], 1, atol=0.2)
    assert weights(given) == weights(Line(nnx.Rngs(0))), "the given model stays as it was"


def test_metrics_are_means_since_the_last_time(whole) -> None:
    """Of every metric of the loss, and of the gradient's norm."""
    seen: dict[int, dict[str, float]] = {}
    train(None, steps=EVERY, watch=lambda step, means: seen.update({step: dict(means)}))
    each: dict[int, dict[str, float]] = {}
    for step in range(1, EVERY + 1):
        train(None, steps=step, watch=lambda step, means: each.update({step: dict(means)}))
    lines = metrics(whole[1])
    assert [line["step"] for line in lines] == list(range(EVERY, STEPS + 1, EVERY))
    for name in ("loss", "largest", "gradient_norm"):
        assert seen[EVERY][name] == pytest.approx(lines[0][name], rel=1e-6)
    assert each[1]["loss"] > each[EVERY]["loss"] and seen[EVERY]["seconds_per_step"] > 0


def test_saving_changes_nothing(whole) -> None:
    assert weights(train(None)) == whole[0]
    assert saved(whole[1])[-1] == STEPS


def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path: Path) -> None:
    """Twice, while a checkpoint may be half written; metrics have no gaps or repeats."""
    for step in (13, 38):
        run = subprocess.run(
            [sys.executable, "-m", "tests.annotations", PROBLEM, str(tmp_path), str(step)],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        assert run.returncode == -signal.SIGKILL
        # A save begins when the one before it is complete, so at most one is lost.
        assert step - 2 * EVERY < max(saved(tmp_path)) <= step
    assert weights(train(tmp_path)) == whole[0]
    assert [line["step"] for line in metrics(tmp_path)] == list(range(EVERY, STEPS + 1, EVERY))
    assert metrics(tmp_path) == metrics(whole[1])


def test_metrics_of_lost_steps_are_forgotten(whole, tmp_path: Path) -> None:
    """A run killed between two checkpoints has told of steps that it will run again."""
    train(tmp_path, steps=10, every=10)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss": 9.0}\n{"step": 20, "lo')
    train(tmp_path, every=10)
    assert [line["step"] for line in metrics(tmp_path)] == list(range(EVERY, STEPS + 1, EVERY))
    assert all(line["loss"] < 9 for line in metrics(tmp_path))


def test_a_finished_run_is_returned_as_it_is(whole) -> None:
    def unread(step: int) -> dict[str, np.ndarray]:
        assert step < 4, "a finished run reads what it is known by, and no more"
        return batches(step)

    before = metrics(whole[1])
    assert weights(train(whole[1], unread)) == whole[0]
    assert metrics(whole[1]) == before


def test_a_longer_run_is_not_mistaken_for_a_shorter_one(whole) -> None:
    with pytest.raises(ValueError, match="holds step 60 of a longer run, steps=20 was asked for"):
        train(whole[1], steps=20)


@pytest.mark.parametrize(("step", "every"), [(0, 1), (7, 5), (31, 5), (31, 7)])
def test_a_loss_that_is_no_number_is_never_saved(tmp_path: Path, step, every) -> None:
    """The run stops with an error that says so, and what was saved before is sound."""

    def spoiled(index: int) -> dict[str, np.ndarray]:
        data = batches(index)
        return data | {"y": np.full_like(data["y"], np.nan)} if index == step else data

    with pytest.raises(FloatingPointError, match=r"loss became nan .* lower the learning rate"):
        train(tmp_path, spoiled, every=every)
    assert all(done <= step for done in saved(tmp_path))
    assert max(saved(tmp_path), default=0) == step - step % every
    if step == 31 and every == 5:
        assert all(math.isfinite(line["loss"]) for line in metrics(tmp_path))
        repaired = weights(train(tmp_path, every=every))
        assert repaired == weights(train(None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0: at least one step is needed"),
        ({"every": 0}, "every=0: at least one step lies between saves"),
    ],
)
def test_numbers_below_one_are_refused(tmp_path: Path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_checkpoints_have_a_default_distance(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).every == 500


def test_a_full_disk_leaves_the_checkpoints_before_it(whole, tmp_path: Path) -> None:
    """The error says which one is kept, and with room again the run goes on to the same bits."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.annotations", PROBLEM, str(tmp_path), "22", "full"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 1
    assert "OSError" in run.stderr and "File too large" in run.stderr
    named = re.findall(r"the checkpoint of step (\d+) is kept; make room and run ag", run.stderr)
    # The one of step 20 may have been half written when the disk was full.
    assert 15 <= int(named[-1]) <= max(saved(tmp_path)) <= 20
    assert weights(train(tmp_path)) == whole[0]
    assert metrics(tmp_path) == metrics(whole[1])


def test_metrics_of_something_else_stay_as_they_are(tmp_path: Path) -> None:
    """A folder without a run in it, in which another trainer or an experiment has its log."""
    for content in ('{"step": 70, "loss": 1.0}\n{"step": 71, "lo', '{"fingerprint": "x"}\n'):
        (tmp_path / "metrics.jsonl").write_text(content)
        with pytest.raises(ValueError, match=r"has a metrics.jsonl and is no run's folder"):
            train(tmp_path)
        assert (tmp_path / "metrics.jsonl").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """Who comes second is told who has the folder; it is free again when a run is over."""

    def meanwhile(step: int) -> dict[str, np.ndarray]:
        with pytest.raises(ValueError, match=r"is being written by .*; wait for it") as error:
            train(tmp_path)
        if Path("/proc/locks").exists():
            assert f"process {os.getpid()} on " in str(error.value)
        return batches(step)

    train(tmp_path, meanwhile, steps=1)
    assert metrics(tmp_path)[0]["step"] == 1
    train(tmp_path, steps=1)


def test_what_a_visit_finds_is_told_and_kept(tmp_path: Path) -> None:
    told: list[tuple[int, set[str]]] = []

    def visit(step: int, model: Line) -> dict[str, float]:
        return {"held_out": float(abs(np.asarray(model.bias[...]) - 1).max())}

    fit(
        Line(nnx.Rngs(0)),
        loss,
        batches,
        optimizer(),
        2 * EVERY,
        Checkpoints(tmp_path),
        watch=lambda step, means: told.append((step, set(means))),
        watch_every=EVERY,
        visit=visit,
    )
    assert [step for step, _ in told] == [EVERY, EVERY, 2 * EVERY, 2 * EVERY]
    assert told[1][1] == {"held_out"} and "loss" in told[0][1]
    held = [line["held_out"] for line in metrics(tmp_path) if "held_out" in line]
    assert len(held) == 2 and held[1] < held[0]


def test_the_step_that_went_wrong_is_named_and_the_sound_checkpoint(tmp_path: Path) -> None:
    """Between two reports and two saves, by its number; an update can be at fault too."""

    def spoiled(index: int) -> dict[str, np.ndarray]:
        data = batches(index)
        return data | {"x": data["x"] * 1e25} if index == 12 else data

    with pytest.raises(
        FloatingPointError, match="loss became inf at step 13; the checkpoint of step 10 is kept"
    ):
        train(tmp_path, spoiled)

    def reckless() -> optax.GradientTransformation:
        return optax.scale_by_schedule(lambda count: jnp.where(count == 3, jnp.inf, -0.01))

    with pytest.raises(
        FloatingPointError, match=r"update_norm became (inf|nan) at step 4; nothing"
    ):
        fit(Line(nnx.Rngs(0)), loss, batches, reckless(), 5)


def test_a_step_takes_the_memory_of_what_it_replaces() -> None:
    """Of the weights and all of the optimiser's state, by what the compiler says."""
    graph, params, frozen = nnx.split(Line(nnx.Rngs(0)), nnx.Param, ...)
    tx = optimizer()
    state = tx.init(params)
    update: Any = updater(graph, loss, tx, None, 2, Accumulate(2), None)
    memory = update.lower(params, frozen, state, batches(0)).compile().memory_analysis()
    replaced = sum(leaf.nbytes for leaf in jax.tree.leaves((params, state)))
    assert memory.alias_size_in_bytes == replaced == 4 * (3 * 10 + 2)


def test_a_model_is_consumed_where_it_is_handed_over_and_nowhere_else() -> None:
    """An optimiser whose state begins with the weights themselves does not matter."""

    def init(params: Any) -> Any:
        return params

    def step(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        pulled = jax.tree.map(lambda g, a, p: 0.1 * (a - p) - 0.1 * g, updates, state, params)
        return pulled, state

    tx = optax.GradientTransformation(init, step)
    kept, given = Line(nnx.Rngs(0)), Line(nnx.Rngs(0))
    first = fit(kept, loss, batches, tx, 5)
    assert weights(kept) == weights(Line(nnx.Rngs(0)))
    second = fit(given, loss, batches, tx, 5, keep=False)
    assert weights(first) == weights(second) != weights(kept)
    assert given.weight.get_value().is_deleted()


def test_a_visitor_may_keep_the_model_that_it_is_shown() -> None:
    shown: dict[int, Line] = {}
    fit(
        Line(nnx.Rngs(0)),
        loss,
        batches,
        optimizer(),
        2 * EVERY,
        watch_every=EVERY,
        visit=lambda step, model: shown.update({step: model}),
    )
    assert weights(shown[EVERY]) == weights(train(None, steps=EVERY)) != weights(shown[2 * EVERY])
