"""An experiment started once a host runs as one, goes on as one, and writes once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from experiments.harness.files import Lines, read_json

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = '''"""Sums over the devices of all processes."""
import pathlib
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from experiments.harness import resumption
from experiments.harness.report import figure
from tests.experiments.harness.test_report import Config, Resumption, Report, run_main

resumption.ROOT = pathlib.Path(__file__).parent  # whose code is not being edited meanwhile

def run(config):
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    measured = []

    def measure(n):
        measured.append(n)
        ones = jax.make_array_from_callback((2,), rows, lambda at: jnp.full((1,), float(n)))
        total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones)
        return {"sum": float(total), "process": jax.process_index()}

    with Resumption(config) as kept:
        found = [kept.row(str(n), lambda n=n: measure(n)) for n in config.sizes]
    with figure(config.out and config.out / "figure.png") as (axis,):
        axis.plot(config.sizes)
    pathlib.Path(__file__).with_name(f"process{jax.process_index()}.txt").write_text(
        f"{measured} {found}"
    )
    return Report([], found)

PRESETS = {"smoke": Config(sizes=(1, 2, 3))}
if __name__ == "__main__":
    run_main(run, PRESETS)
'''


def start(script: Path, out: Path, **environment: str) -> subprocess.Popen:
    shared = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    return subprocess.Popen(
        [sys.executable, str(script), "--out", str(out)],
        env=os.environ | shared | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_two(script: Path, outs: list[Path]) -> list[str]:
    """What two processes on this machine, joined by the environment, said."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [
        start(script, out, JAX_PROCESS_ID=str(index), **shared) for index, out in enumerate(outs)
    ]
    try:
        said = []
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            said.append(output)
    finally:
        for process in processes:
            process.kill()
    return said


def test_two_processes_are_one_experiment(tmp_path: Path) -> None:
    script, outs = tmp_path / "sums.py", [tmp_path / "first", tmp_path / "second"]
    script.write_text(SCRIPT)
    first, second = run_two(script, outs)
    assert "written to" in first and "written to" not in second
    assert not outs[1].exists(), "only process 0 writes"
    assert (outs[0] / "figure.png").is_file() and (outs[0] / "table.md").is_file()
    result = read_json(outs[0] / "result.json")
    assert result["environment"]["processes"] == 2
    # One sum over the devices of both, and the first's word for what was measured.
    rows = [{"sum": 2.0 * n, "process": 0} for n in (1, 2, 3)]
    assert result["rows"] == rows
    for index in range(2):
        assert (tmp_path / f"process{index}.txt").read_text() == f"[1, 2, 3] {rows}"

    log = outs[0] / "metrics.jsonl"
    with Lines(log, "fingerprint") as lines:
        assert [record.get("key") for record in lines.records] == [None, "1", "2", "3", None]
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    run_two(script, outs)  # as after a kill: the second learns from the first what is left
    for index in range(2):
        assert (tmp_path / f"process{index}.txt").read_text() == f"[3] {rows}"
