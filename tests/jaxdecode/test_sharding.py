"""Many devices give what one gives, hold their share of it, and say little to each other."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# A third of the usual time to compile; the programs are the same.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)

# A device of a CPU waits in several collectives at once, each in a thread of its own, and hangs
# for good where there are only as many threads as devices.
THREADS = "64"


def start(
    folder: Path, *tasks: str, devices: int = 8, worker: str = "mesh_worker", **environment: str
) -> subprocess.Popen:
    flags = f"{QUICK} --xla_force_host_platform_device_count={devices}"
    settings = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PJRT_NPROC": THREADS}
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.jaxdecode.{worker}", str(folder), *tasks],
        cwd=ROOT,
        env=os.environ | settings | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def run(folder: Path, *tasks: str) -> list[Any]:
    finish(start(folder, *tasks))
    return [json.loads((folder / f"{task}.json").read_text()) for task in tasks]


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("tokens", "length", "status"):
        assert found[name] == expected[name], name
    np.testing.assert_allclose(found["logprob"], expected["logprob"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_every_mesh_decodes_as_one_device(tmp_path) -> None:
    found, ragged = run(tmp_path, "decoding", "ragged")
    assert found.keys() == {"greedy", "sampling", "best of n", "rejection"}
    assert [len(results) - 1 for results in found.values()] == [4, 2, 2, 2]
    for results in found.values():
        for mesh in results.keys() - {"one device"}:
            agree(results[mesh], results["one device"])
    greedy = found["greedy"]["one device"]
    texts = [row[:n] for row, n in zip(greedy["tokens"], greedy["length"], strict=True)]
    assert ragged == {"texts": texts, "streamed": texts}
    # The programs ran, and are not one another's.
    assert len({str(results["one device"]["tokens"]) for results in found.values()}) == 4


def test_devices_hold_their_share(tmp_path) -> None:
    layout, loading = run(tmp_path, "layout", "loading")
    # 16 rows of 28 slots: over 4 and 2 groups; 2 heads of width 4, which 4 devices do not divide.
    assert layout["4x2"] == [[2, 4, 1, 4, 28], [2, 4, 1, 28, 4], [4, 12]]
    assert layout["2x4"] == [[2, 8, 2, 4, 28], [2, 8, 2, 28, 4], [8, 12]]
    assert layout["moved"] == ["pred[]"], "rows are to stay where they are, pruned or not"

    for name, model in (("4x2", 2), ("2x4", 4)):
        found = loading[name]
        assert found["equal"] and found["devices"] == [8]
        assert found["elements"] == loading["size"], "every number is read once"
        kv = 8 // model if model == 2 else 8
        part = 32 // model
        assert found["parts"] == {
            "embedding": [48 // model, 16],
            "layers/attention_norm": [2, 16],
            "layers/q": [2, 16, 16 // model],
            "layers/k": [2, 16, kv],
            "layers/v": [2, 16, kv],
            "layers/o": [2, 16 // model, 16],
            "layers/mlp_norm": [2, 16],
            "layers/gate": [2, 16, part],
            "layers/up": [2, 16, part],
            "layers/down": [2, part, 16],
            "norm": [16],
            "head": [16, 48 // model],
        }


def check_training(found: dict[str, Any]) -> None:
    alone, first, second = (found[name] for name in ("alone", "first", "second"))
    assert len(alone["losses"]) == 5 and len(set(alone["losses"])) == 5
    np.testing.assert_allclose(first["losses"] + second["losses"], alone["losses"], rtol=1e-5)
    assert found["logged"] == 5
    assert alone["parts"]["layers/q"] == [2, 16, 16]
    for run in (first, second):
        assert run["parts"]["layers/q"] == [2, 16, 8] and run["parts"]["layers/down"] == [2, 16, 16]


def check_aligning(found: dict[str, Any]) -> None:
    assert len(found["alone"]) == 6 and found["resumed"] == 3
    for name in ("loss", "reward", "kl"):
        alone, mesh = ([means[name] for means in found[run]] for run in ("alone", "mesh"))
        assert len(set(alone)) == 6
        np.testing.assert_allclose(mesh, alone, rtol=1e-4, atol=1e-5, err_msg=name)
    assert found["alone"][-1]["kl"] > 1e-3, "the policy is to have moved"


@pytest.mark.slow
def test_training_on_a_mesh_is_training_and_resumes(tmp_path) -> None:
    training, aligning = run(tmp_path, "training", "aligning")
    check_training(training)
    check_aligning(aligning)


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [
        start(tmp_path, "together", "aligning", devices=4, JAX_PROCESS_ID=str(index), **shared)
        for index in range(2)
    ]
    try:
        for process in processes:
            finish(process)
    finally:
        for process in processes:
            process.kill()
    first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("together.json", "together.1.json")
    )
    for found in (first, second):
        agree(found["same prompts"], found["one device"])
        agree(found["own prompts"], found["one device"])
        check_training(found["training"])
        assert found["from all"] == ["x", "xx"]
    for name in ("aligning.json", "aligning.1.json"):
        check_aligning(json.loads((tmp_path / name).read_text()))
    assert (first["own"], second["own"]) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert "outside the vocabulary" in first["refusal"]
    assert "process 0 refused" in second["refusal"]


def test_refusals(tmp_path) -> None:
    (found,) = run(tmp_path, "refusals")
    assert found == {
        "devices": "data=2 x model=3 makes 6 devices and there are 8; use 8 x 1, 4 x 2, 2 x 4, "
        "1 x 8, or pass the devices to use",
        "axis": "data=8, model=0: both axes need at least one device",
        "rows": "6 rows do not divide over the 4 groups of devices of this process; use a "
        "multiple of 4",
        "batch": "batch=6 does not divide over data=4; use a multiple of it",
        "rule": "rules['heads']='modle' is no axis of ('data', 'model')",
        "prompt": "prompt.tokens[1, 0]=99 is outside the vocabulary 0..47; does the tokenizer "
        "belong to this model?",
    }
