"""An experiment started once a host runs as one, goes on as one, and writes once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from experiments.harness.files import Lines, read_json

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = '''"""Sums over the devices of all processes, twice; the first run loses its end."""
import dataclasses
import os
import pathlib
import jax
import jax.numpy as jnp
from jax.experimental.multihost_utils import sync_global_devices
from jax.sharding import NamedSharding, PartitionSpec
from experiments.harness import resumption
from experiments.harness.report import Out, Report, Resumption, Seed, figure, run_main
from jaxdecode import distributed

HERE = pathlib.Path(__file__)
resumption.ROOT = HERE.parent  # whose code is not being edited meanwhile

@dataclasses.dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (1, 2, 3)
    seed: Seed = 0
    out: Out = None

told = []

def run(config):
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    measured = []

    def measure(n):
        measured.append(n)
        ones = jax.make_array_from_callback((2,), rows, lambda at: jnp.full((1,), float(n)))
        return {"sum": float(total(ones)), "process": jax.process_index()}

    with Resumption(config) as kept:
        found = [kept.row(str(n), lambda n=n: measure(n)) for n in config.sizes]
    with figure(config.out and config.out / "figure.png") as (axis,):
        axis.plot(config.sizes)
    told.append(f"{measured} {found}")
    return Report([], found)

PRESETS = {"smoke": Config()}
if __name__ == "__main__":
    run_main(run, PRESETS)
    if jax.process_index() == 0:
        log = HERE.with_name("first") / "metrics.jsonl"
        whole = log.read_bytes()
        HERE.with_name("whole.jsonl").write_bytes(whole)
        log.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    sync_global_devices("the log is cut")
    for name in (distributed.COORDINATOR, distributed.COUNT, distributed.INDEX):
        del os.environ[name]  # they are joined already
    run_main(run, PRESETS)
    HERE.with_name(f"process{jax.process_index()}.txt").write_text("\\n".join(told))
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
        whole, again = (tmp_path / f"process{index}.txt").read_text().splitlines()
        assert whole == f"[1, 2, 3] {rows}"
        # As after a kill: the second learns from the first what is left.
        assert again == f"[3] {rows}"
    with Lines(tmp_path / "whole.jsonl", "fingerprint") as lines:
        assert [record.get("key") for record in lines.records] == [None, "1", "2", "3", None]
