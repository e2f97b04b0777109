"""Several processes as one program: who is there, who writes, and refusing together.

Every process runs the same script. An experiment calls `initialize` before anything touches a
device; from then on `jax.devices()` are those of all processes, compiled programs span them,
and every process must start the same programs in the same order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    detect: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Join the other processes, or do nothing where there are none to join.

    Args:
      coordinator: host:port of process 0, the same for all.
      processes: how many there are.
      process: which of them this is, counted from 0.
      detect: ask the platform instead: TPU pods, Slurm, Open MPI and Kubernetes tell.
      environment: where JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID stand in
        for arguments that are not given.
    Raises:
      ValueError: some of the three are known and others are not, or they contradict.
    """
    coordinator = coordinator or environment.get(COORDINATOR)
    processes = _number(COUNT, environment) if processes is None else processes
    process = _number(INDEX, environment) if process is None else process
    if coordinator is None and processes is None and process is None:
        if detect:
            jax.distributed.initialize()
        return
    if coordinator is None or processes is None or process is None:
        raise ValueError(
            f"coordinator={coordinator}, processes={processes}, process={process}: all three are "
            f"needed; the missing ones may be set by {COORDINATOR}, {COUNT} and {INDEX}"
        )
    if not 0 <= process < processes:
        raise ValueError(f"process={process} must lie in 0..{processes - 1}, processes={processes}")
    jax.distributed.initialize(coordinator, processes, process)


def _number(name: str, environment: Mapping[str, str]) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise ValueError(f"{name}={text!r} in the environment is no natural number")
    return int(text)


def primary() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def from_primary(value: Any) -> Any:
    """What process 0 has, on every process, so that all decide alike; `value` is JSON's."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    padded = np.resize(text, size)
    received = np.asarray(multihost_utils.broadcast_one_to_all(padded))
    return json.loads(received.astype(np.uint8).tobytes())


def from_all(value: Any) -> list[Any]:
    """What every process has, in their order, on all of them; values are JSON's."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(text.size))
    padded = np.pad(text, (0, int(sizes.max()) - text.size))
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [
        json.loads(row[:n].astype(np.uint8).tobytes()) for row, n in zip(rows, sizes, strict=True)
    ]


def together(check: Callable[[], None]) -> None:
    """Run a check on every process; what one refuses, all refuse, and nobody is left waiting.

    Raises:
      ValueError: the process's own, or one that names the process to look at.
    """
    fault = None
    try:
        check()
    except ValueError as error:
        fault = error
    if jax.process_count() > 1:
        faults = multihost_utils.process_allgather(np.array(fault is not None))
        if fault is None and faults.any():
            raise ValueError(f"process {int(faults.argmax())} refused its input; see its message")
    if fault is not None:
        raise fault
