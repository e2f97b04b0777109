"""Kill -9 at any moment: answers and training go on, with nothing lost, doubled or torn.

A real run of `generate --output` and one of `fit` are each started, killed a random moment after
they got somewhere, and started again in the same place, until they have been killed often enough;
then they may end. In between, the same place is asked for with other flags. `KILLS=20 pytest FILE`
kills as often as that; three times are the least that one run of the suite can pay for.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import multiprocessing.process
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from flax import nnx

from experiments.commands.generate import main as generate
from tests.experiments.folders import build
from tests.jaxdecode.train import problem

KILLS = int(os.environ.get("KILLS", "3"))
SECONDS = 120.0  # until a run that gets nowhere is a fault
PROMPTS = [f"{a} plus {b}" for a in ("one", "two", "cat", "mat") for b in range(8)]
# Processes are forked from one that has imported everything and started nothing.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__, "experiments.commands.generate.running"])


def written(model: str, output: str, options: Sequence[str]) -> None:
    """The run that decodes, as a command line."""
    generate.main(
        ["--model", model, "--output", output, "--max-tokens", "8", "--prompts", *PROMPTS, *options]
    )


def trained(folder: str, seed: int, said: str) -> None:
    """The run that trains; what it refuses, or the weights it ends with, go to the file `said`."""
    try:
        model = problem.train(Path(folder), every=problem.EVERY, model=problem.Line(nnx.Rngs(seed)))
    except ValueError as error:
        Path(said).write_text(str(error))
        sys.exit(1)
    Path(said).write_bytes(b"".join(problem.weights(model)))


def start(run: Callable, *arguments: object) -> multiprocessing.process.BaseProcess:
    process = FORKED.Process(target=quietly, args=(run, *arguments))
    process.start()
    return process


def quietly(run: Callable, *arguments: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        run(*arguments)


def finished(run: Callable, *arguments: object) -> int | None:
    process = start(run, *arguments)
    process.join(SECONDS)
    return process.exitcode


def killed(rng: random.Random, got: Callable[[], int], run: Callable, *arguments: object) -> bool:
    """Kill a run a random moment after random progress; whether it died of that."""
    process, before = start(run, *arguments), got()
    after, until = before + rng.randint(0, 4), time.monotonic() + SECONDS
    while process.is_alive() and got() < after:
        assert time.monotonic() < until, "the run got nowhere"
        time.sleep(0.001)
    time.sleep(rng.random() * (0.02 if after > before else 2.0))  # before that it starts
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_that_decodes(tmp_path: Path) -> None:
    model = str(build(tmp_path)["generator"])
    whole, path, rng = tmp_path / "whole.jsonl", tmp_path / "a.jsonl", random.Random(0)
    assert finished(written, model, str(whole), ["--batch", "2"]) == 0
    expected = {row["id"]: row for row in map(json.loads, whole.read_bytes().splitlines())}
    assert len(expected) == len(PROMPTS)

    def whole_lines() -> list[bytes]:
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def run(batch: int) -> tuple:
        return written, model, str(path), ["--batch", str(batch)]

    kills = 0
    while kills < KILLS:
        kept = whole_lines()
        kills += killed(rng, lambda: lines(path), *run(rng.choice([2, 3])))
        now = whole_lines()
        assert now[: len(kept)] == kept, "what was there is there, as it was"
        for row in map(json.loads, now):
            assert alike(row, expected[row["id"]])
        if len(now) == len(PROMPTS) and kills < KILLS:
            path.unlink()
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


def test_a_run_that_trains(tmp_path: Path) -> None:
    rng, folder, said = random.Random(1), tmp_path / "run", tmp_path / "said"
    assert finished(trained, str(tmp_path / "whole"), 0, str(said)) == 0
    weights, told = said.read_bytes(), metrics(tmp_path / "whole")
    assert [line["step"] for line in told] == sorted({line["step"] for line in told})

    def steps() -> int:
        if not folder.exists():
            return 0
        return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0)

    kills, chain = 0, 0
    while kills < KILLS:
        kept = steps()
        kills += killed(rng, steps, trained, str(folder), 0, str(said))
        assert steps() >= kept
        if steps() == problem.STEPS and kills < KILLS:
            chain += 1
            folder = tmp_path / f"run{chain}"
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
