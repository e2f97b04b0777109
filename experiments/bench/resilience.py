"""Aligning survives: kill -9 at any moment, eight devices, two processes.

Claim, of this project and no paper: an aligning run that is killed and started again ends with
the weights, bit for bit, of one that was left alone; and on 8 devices (data 4 x model 2), or on
two processes of 4, it has the loss curve of one device.

    python -m experiments resilience --preset cpu

Every run is a process of its own (`experiments.bench.aligning_run`). One is left alone. Each of the
others is killed by SIGKILL from outside, once, a random moment after a random step was saved, be
it while it calibrates, compiles, trains or writes a checkpoint, and then started again in the same
folder. The curves are of the first steps, one point each: float32 sums taken in another order end
in another token sooner or later, and then the runs are no longer the same run. About 10 minutes on
two cores, nearly all of it starting 45 processes. Measured: 20 kills of 20 survived, 11 of them
with a checkpoint half written, going on from steps 0 to 90 of 100; the curves are apart by at most
5e-7.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.environment import ROOT
from experiments.harness.progress import Progress
from experiments.harness.report import Claim, Out, Report, Resumption, Seed, figure

TOLERANCE = 1e-4  # of losses, whose size is about 0.1
THREADS = "64"  # collectives of virtual devices each wait in a thread of their own


@dataclass(frozen=True)
class Config:
    """How much to kill and to compare.

    Attributes:
      kills: runs that are killed once each.
      steps, save: of those runs, and steps between their checkpoints.
      delay: most seconds between a checkpoint and the kill.
      curve: steps that are compared on many devices; 0 leaves that out.
    """

    kills: int = 20
    steps: int = 100
    save: int = 5
    delay: float = 0.2
    curve: int = 9
    seed: Seed = 0
    out: Out = None


PRESETS = {"smoke": Config(kills=1, steps=40, delay=0.05, curve=0), "cpu": Config()}


def start(folder: Path, *numbers: int, devices: int = 1, **environment: str) -> subprocess.Popen:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    settings = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip(), "PJRT_NPROC": THREADS}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.bench.aligning_run", str(folder), *map(str, numbers)],
        cwd=ROOT,
        env=os.environ | settings | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that is to end well.

    Raises:
      RuntimeError: it did not, with what it said.
    """
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with {process.returncode}: {errors[-2000:]}")


def saved(folder: Path) -> int:
    """The newest step whose checkpoint is whole, 0 before the first."""
    runs = folder / "policy"
    found = (int(p.name) for p in runs.iterdir() if p.name.isdigit()) if runs.is_dir() else ()
    return max(found, default=0)


def digest(folder: Path) -> str:
    return (folder / "digest").read_text()


def kill(config: Config, trial: int, whole: str) -> dict[str, Any]:
    """One run, killed and started again."""
    rng = np.random.default_rng((config.seed, trial))
    after = int(rng.integers(0, config.steps - 2 * config.save))
    delay = float(rng.uniform(0, config.delay))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = start(folder, config.steps, config.save)
        while saved(folder) < after and process.poll() is None:
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = saved(folder)
        half = len(list(folder.glob("policy/*.orbax-checkpoint-tmp*")))
        finish(start(folder, config.steps, config.save))
        return {
            "kill": trial,
            "after step": after,
            "died of the kill": process.returncode == -signal.SIGKILL,
            "went on from": kept,
            "half written": half,
            "same weights": digest(folder) == whole,
        }


def curve(folder: Path) -> dict[str, list[float]]:
    """What a run told at every step."""
    lines = (folder / "policy" / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    return {name: [line[name] for line in told] for name in ("loss", "reward", "kl")}


def curves(config: Config) -> dict[str, Any]:
    """The first steps on one device, on eight, and on two processes of four."""
    found, numbers = {}, (config.curve, config.curve)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    for name in ("one device", "4 x 2 devices", "two processes"):
        with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
            folder = Path(place)
            match name:
                case "one device":
                    runs = [start(folder, *numbers)]
                case "4 x 2 devices":
                    runs = [start(folder, *numbers, 4, 2, devices=8)]
                case _:
                    runs = [
                        start(folder, *numbers, 4, 2, devices=4, JAX_PROCESS_ID=str(i), **shared)
                        for i in range(2)
                    ]
            for process in runs:
                stack.callback(process.kill)
            for process in runs:
                finish(process)
            found[name] = curve(folder)
    return found


def run(config: Config) -> Report:
    with (
        Resumption(config) as finished,
        Progress("runs", 1 + config.kills + (config.curve > 0)) as progress,
    ):

        def alone() -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as name:
                finish(start(Path(name), config.steps, config.save))
                return {"digest": digest(Path(name))}

        whole = finished.row("alone", alone)["digest"]
        progress.advance()
        rows = []
        for trial in range(config.kills):
            rows.append(
                finished.row(f"kill {trial}", lambda trial=trial: kill(config, trial, whole))
            )
            progress.advance(note=f"{sum(row['same weights'] for row in rows)} the same")
        found = finished.row("curves", lambda: curves(config)) if config.curve else {}
    if found:
        _draw(None if config.out is None else config.out / "figure.png", found)
    evidence = {"kills": rows, "curves": found}
    return Report.of(claims, config, evidence, rows, finished.seconds)


def claims(config: Config, evidence: dict[str, Any]) -> list[Claim]:
    """Of every kill and every step, none of which may be an exception."""
    return [_survived(evidence["kills"]), *_compared(evidence["curves"])]


def _survived(rows: list[dict[str, Any]]) -> Claim:
    same = sum(row["same weights"] and row["died of the kill"] for row in rows)
    steps = sorted(row["went on from"] for row in rows)
    return Claim(
        "killed by SIGKILL and started again, an aligning run ends with the same weights, bit "
        "for bit",
        "no paper's; every one of them",
        f"{same} of {len(rows)}, going on from steps {steps[0]} to {steps[-1]}",
        same == len(rows),
    )


def _compared(found: dict[str, dict[str, list[float]]]) -> list[Claim]:
    claims = []
    for name in list(found)[1:]:
        far = max(
            float(np.abs(np.subtract(found[name][metric], values)).max())
            for metric, values in found["one device"].items()
        )
        claims.append(
            Claim(
                f"on {name} loss, reward and KL are those of one device at every step, to 1e-4",
                "no paper's",
                f"largest difference {far:.1e}, losses of up to "
                f"{np.abs(found['one device']['loss']).max():.2f}",
                far < TOLERANCE,
            )
        )
    return claims


def _draw(path: Path | None, found: dict[str, dict[str, list[float]]]) -> None:
    """The curves lie on one another, so that each has a smaller mark than the last."""
    with figure(path, columns=3, width=3.4) as axes:
        for axis, metric in zip(axes, ("loss", "reward", "kl"), strict=True):
            for size, (name, told) in zip((9, 6, 3), found.items(), strict=True):
                (line,) = axis.plot(range(1, 1 + len(told[metric])), told[metric], markersize=size)
                if metric == "kl":  # which leaves the legend room
                    line.set_label(name)
            axis.set(xlabel="step", title=metric)
