"""Runs in processes of their own that start at once, to be killed, told to stop, or left to end.

They are forked from a process that has imported what they need and has started nothing: a
program started anew would spend seconds on its imports.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Process = multiprocessing.process.BaseProcess

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__, "pytest", "experiments.commands.generate.running"])
SECONDS = 180.0  # until a run that gets nowhere is a fault


def start(run: Callable, *arguments: object, said: Path | None = None) -> Process:
    """Begin `run(*arguments)`; what it prints goes to the file `said`, or nowhere."""
    process = FORKED.Process(target=_alone, args=(said, run, *arguments))
    process.start()
    return process


def _alone(said: Path | None, run: Callable, *arguments: object) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal
    with (
        open(os.devnull if said is None else said, "w") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        run(*arguments)


def finished(run: Callable, *arguments: object, said: Path | None = None) -> int | None:
    """The exit status of a run that is left to end."""
    process = start(run, *arguments, said=said)
    process.join(SECONDS)
    return process.exitcode


def on_eight_devices(command: Callable, *lines: list[str]) -> None:
    """A command, called with each of some lines of options, as on a machine with eight devices:
    jax counts them when it is first used."""
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"
    os.environ["PJRT_NPROC"] = "64"
    for line in lines:
        command(line)


def wait(ready: Callable[[], bool], process: Process | None = None) -> None:
    """Until something is so, or the process is over."""
    until = time.monotonic() + SECONDS
    while not ready() and (process is None or process.is_alive()):
        assert time.monotonic() < until, "it got nowhere"
        time.sleep(0.002)


@contextlib.contextmanager
def no_room(most: int) -> Iterator[None]:
    """Files cannot grow past so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
