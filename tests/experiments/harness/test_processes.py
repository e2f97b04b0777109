"""An experiment started once a host runs as one, goes on as one, and writes once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from experiments.harness import resumption
from experiments.harness.files import Lines, read_json
from experiments.harness.report import Report, Resumption, figure
from experiments.harness.running import run_main
from tests.experiments.forking import SECONDS, start
from tests.experiments.harness.test_report import Config


def summed(environment: dict[str, str], home: Path, out: Path) -> None:
    """Sums over the devices of all processes, as a command line; `home` is where its code is
    looked for, and where each process says what it measured and what it was told."""
    os.environ.update(environment)
    resumption.ROOT = home

    def run(config: Config) -> Report:
        mesh = jax.make_mesh((jax.device_count(),), ("data",))
        rows = NamedSharding(mesh, PartitionSpec("data"))
        measured = []

        def measure(n: int) -> dict[str, Any]:
            measured.append(n)
            ones = jax.make_array_from_callback((2,), rows, lambda at: jnp.full((1,), float(n)))
            total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones)
            return {"sum": float(total), "process": jax.process_index()}

        with Resumption(config) as kept:
            found = [kept.row(str(n), lambda n=n: measure(n)) for n in config.sizes]
        with figure(config.out and config.out / "figure.png") as (axis,):
            axis.plot(config.sizes)
        (home / f"process{jax.process_index()}.txt").write_text(f"{measured} {found}")
        return Report([], found)

    run_main(run, {"smoke": Config(sizes=(1, 2, 3))}, ["--out", str(out)])
    jax.distributed.shutdown()  # as at the end of a program: none leaves before the others


def run_two(home: Path, outs: list[Path]) -> list[str]:
    """What two processes on this machine, joined by the environment, said."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    files = [home / f"said{index}" for index in range(2)]
    processes = [
        start(summed, shared | {"JAX_PROCESS_ID": str(index)}, home, out, said=files[index])
        for index, out in enumerate(outs)
    ]
    try:
        for process, said in zip(processes, files, strict=True):
            process.join(SECONDS)
            assert process.exitcode == 0, said.read_text()
    finally:
        for process in processes:
            process.kill()
    return [said.read_text() for said in files]


def test_two_processes_are_one_experiment(tmp_path: Path) -> None:
    home, outs = tmp_path / "home", [tmp_path / "first", tmp_path / "second"]
    home.mkdir()
    first, second = run_two(home, outs)
    assert "written to" in first and "written to" not in second
    assert not outs[1].exists(), "only process 0 writes"
    assert (outs[0] / "figure.png").is_file() and (outs[0] / "table.md").is_file()
    result = read_json(outs[0] / "result.json")
    assert result["environment"]["processes"] == 2
    # One sum over the devices of both, and the first's word for what was measured.
    rows = [{"sum": 2.0 * n, "process": 0} for n in (1, 2, 3)]
    assert result["rows"] == rows
    for index in range(2):
        assert (home / f"process{index}.txt").read_text() == f"[1, 2, 3] {rows}"

    log = outs[0] / "metrics.jsonl"
    with Lines(log, "fingerprint") as lines:
        assert [record.get("key") for record in lines.records] == [None, "1", "2", "3", None]
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    run_two(home, outs)  # as after a kill: the second learns from the first what is left
    for index in range(2):
        assert (home / f"process{index}.txt").read_text() == f"[3] {rows}"
