"""Kill -9 at any moment: answers and training go on, with nothing lost, doubled or torn.

A real run of `generate --output` and one of `fit` are each started, killed a random moment after
they got somewhere, and started again in the same place, until they have been killed often enough;
then they may end. In between the disk is full, and the same place is asked for with other flags.
`KILLS=20 pytest FILE` kills as often as that; three times are the least that one run of the suite
can pay for.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.commands.generate import main as generate
from experiments.harness.files import Lines
from tests.experiments.folders import build
from tests.experiments.forking import finished, no_room, start, wait
from tests.jaxdecode.train import problem

KILLS = int(os.environ.get("KILLS", "3"))
PROMPTS = [f"{a} plus {b}" for a in ("one", "two", "cat", "mat") for b in range(8)]


def written(model: str, output: str, options: Sequence[str]) -> None:
    """The run that decodes, as a command line."""
    generate.main(
        ["--model", model, "--output", output, "--max-tokens", "8", "--prompts", *PROMPTS, *options]
    )


def crammed(model: str, output: str, options: Sequence[str], most: int) -> None:
    """The same where the file of answers can have so many bytes."""
    append = Lines.append

    def appended(self: Lines, record: dict[str, Any]) -> None:
        with no_room(most):
            append(self, record)

    Lines.append = appended
    written(model, output, options)


def trained(folder: str, seed: int, said: str, full: int = problem.STEPS) -> None:
    """The run that trains; what it refuses, or the weights it ends with, go to the file `said`.
    From step `full` on nothing can be written."""

    room = no_room(8)
    if full < problem.STEPS:  # half a compiled program would be kept for others
        jax.config.update("jax_enable_compilation_cache", False)

    def source(step: int) -> Mapping[str, np.ndarray]:
        if step == full:
            room.__enter__()
        return problem.batches(step)

    start = problem.Line(nnx.Rngs(seed))
    try:
        model = problem.train(Path(folder), source, every=problem.EVERY, model=start)
    except ValueError as error:
        Path(said).write_text(str(error))
        sys.exit(1)
    Path(said).write_bytes(b"".join(problem.weights(model)))


def killed(rng: random.Random, got: Callable[[], int], run: Callable, *arguments: object) -> bool:
    """Kill a run a random moment after random progress; whether it died of that."""
    process, before = start(run, *arguments), got()
    after = before + rng.randint(0, 4)
    wait(lambda: got() >= after, process)
    time.sleep(rng.random() * (0.02 if after > before else 2.0))  # before that it starts
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(build(tmp_path_factory.mktemp("model"))["generator"])


def test_a_run_that_decodes(tmp_path: Path, model: str) -> None:
    whole, path, rng = tmp_path / "whole.jsonl", tmp_path / "a.jsonl", random.Random(0)
    assert finished(written, model, str(whole), ["--batch", "2"]) == 0
    expected = {row["id"]: row for row in map(json.loads, whole.read_bytes().splitlines())}
    assert len(expected) == len(PROMPTS)

    def whole_lines() -> list[bytes]:
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def run(batch: int) -> tuple:
        return written, model, str(path), ["--batch", str(batch)]

    def looked_at(kept: list[bytes]) -> int:
        now = whole_lines()
        assert now[: len(kept)] == kept, "what was there is there, as it was"
        for row in map(json.loads, now):
            assert alike(row, expected[row["id"]])
        return len(now)

    kills, full = 0, 0
    while kills < KILLS:
        kept = whole_lines()
        kills += killed(rng, lambda: lines(path), *run(rng.choice([2, 3])))
        there = looked_at(kept)
        if there == len(PROMPTS) and kills < KILLS:
            path.unlink()
        elif there < len(PROMPTS) and full < -(-KILLS // 3):
            kept, full = whole_lines(), full + 1
            most = (path.stat().st_size if path.exists() else 0) + rng.randint(1, 900)
            assert finished(crammed, *run(2)[1:], most) == 1, "it ends for want of room"
            assert path.stat().st_size <= most and looked_at(kept) < len(PROMPTS)
    assert full > 0
    before = path.read_bytes() if path.exists() else b""
    if before.count(b"\n"):
        flags = ["--seed", "1", "--temperature", "0.5"]
        assert finished(written, model, str(path), flags) == 1, "other answers are not mixed in"
        assert path.read_bytes() == before
    assert finished(*run(2)) == 0
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted(row["id"] for row in found) == list(range(len(PROMPTS)))
    assert all(alike(row, expected[row["id"]]) for row in found)


def alike(one: dict, other: dict) -> bool:
    """Sums of another batch are rounded otherwise."""
    near = one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
    names = one.keys() - {"logprob"}
    return near and one.keys() == other.keys() and all(one[x] == other[x] for x in names)


def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(tmp_path: Path, model: str) -> None:
    """By the same options byte for byte; told to stop, it says what is kept."""
    source = tmp_path / "prompts.txt"
    source.write_text("\n".join(f"{i} plus {i}" for i in range(60)))
    whole, path, said = (tmp_path / name for name in ("whole.jsonl", "a.jsonl", "said"))

    def run(output: Path) -> tuple:
        options = ["--model", model, "--batch", "1", "--max-tokens", "60", "--input", str(source)]
        return generate.main, [*options, "--output", str(output)]

    assert finished(*run(whole)) == 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        before = lines(path)
        process = start(*run(path), said=said)
        wait(lambda before=before: lines(path) >= before + 5, process)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join()
        assert before < lines(path) < 60
        if number == signal.SIGKILL:
            assert process.exitcode == -number
        else:
            assert process.exitcode == 128 + number
            assert "kept in" in said.read_text() and "Traceback" not in said.read_text()
    assert finished(*run(path)) == 0
    assert path.read_bytes() == whole.read_bytes()


def test_a_run_that_trains(tmp_path: Path) -> None:
    rng, folder, said = random.Random(1), tmp_path / "run", tmp_path / "said"
    assert finished(trained, str(tmp_path / "whole"), 0, str(said)) == 0
    weights, told = said.read_bytes(), metrics(tmp_path / "whole")
    assert [line["step"] for line in told] == sorted({line["step"] for line in told})

    def steps() -> int:
        if not folder.exists():
            return 0
        return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0)

    kills, chain, full = 0, 0, 0
    while kills < KILLS:
        kept = steps()
        kills += killed(rng, steps, trained, str(folder), 0, str(said))
        assert steps() >= kept
        if steps() == problem.STEPS and kills < KILLS:
            chain += 1
            folder = tmp_path / f"run{chain}"
        elif steps() < problem.STEPS - problem.EVERY and full < -(-KILLS // 3):
            kept, full = steps(), full + 1
            last = rng.randint(kept + 1, problem.STEPS - 1)
            assert finished(trained, str(folder), 0, str(said), last) == 1, "there is no room"
            assert kept <= steps() <= last
    assert full > 0
    if steps():
        assert finished(trained, str(folder), 1, str(said)) == 1
        assert re.search(r"holds another run: it differs in ", said.read_text())
    said.unlink()
    assert finished(trained, str(folder), 0, str(said)) == 0
    assert said.read_bytes() == weights, "bit for bit those of a run that nothing disturbed"
    assert metrics(folder) == told


def metrics(folder: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in found]
