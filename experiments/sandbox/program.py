"""Programs that a model wrote, run where they can do little harm.

    run = run_program("print(int(input()) + 1)", "41")
    run.status, run.stdout                          # "ok", "42\\n"

A program runs in a bare interpreter of its own: no site packages, no environment, no inherited
files beside the three streams, a temporary folder to work in. Around it stand, wherever the system
has them (Linux as root has all; see `Run.walls` for those that did stand):

    limits      CPU time, memory, size of a file, processes, open files, by resource limits
    processes   a process space of its own: nothing outside is seen, nothing survives
    network     a network of its own, with nothing on it
    disk        a small file system of its own to write on
    root        a root of its own: of all files and sockets, the interpreter and its folder exist
    files       Landlock: reads the interpreter and its folder, writes in its folder alone
    signals     Landlock: none to processes outside
    calls       seccomp: no memory beside that of processes, no Unix sockets, no new name spaces
    user        an unknown user's rights, one such user a program

Wall time, the end of the whole process group, with this process too, and a cap on output hold
everywhere. Memory is limited for each process, so a program may take `memory` times `processes`.
Where neither "root" nor "calls" stands, a Unix socket that a file names is reached. This contains
accidents and simple malice; against an attacker with a hole in the kernel use a virtual machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

Outcome = Literal["ok", "error", "timeout", "memory", "killed", "ended"]
SCRIPT = "program.py"
_CUT: dict[str, Outcome] = {"late": "timeout", "ended": "ended"}
_LAUNCHER = Path(__file__).with_name("launcher.py")
_GRACE = 10.0  # seconds for starting two interpreters and sweeping up, on a busy machine


@dataclass(frozen=True)
class Limits:
    """What a program may take.

    Attributes:
      wall, cpu: seconds; CPU time is limited in whole seconds, rounded up.
      memory: bytes of address space of a process.
      file: bytes of a file, hence of stdout and of stderr.
      disk: bytes of all files together, where it can have a file system of its own.
      processes: processes and threads at a time, its own included.
      output: characters that are kept of stdout and of stderr.
    """

    wall: float = 5.0
    cpu: float = 5.0
    memory: int = 512 << 20
    file: int = 1 << 20
    disk: int = 8 << 20
    processes: int = 8
    output: int = 20_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name}={value}: a limit must be positive")

    @property
    def resources(self) -> dict[str, int]:
        """By the names of the `resource` module."""
        return {
            "CPU": -int(-self.cpu // 1),
            "AS": self.memory,
            "FSIZE": self.file,
            "NOFILE": 64,
            "CORE": 0,
        }


@dataclass(frozen=True)
class Run:
    """What became of a program.

    Attributes:
      status: "ok" (exit status 0), "error" (another), "timeout" (wall or CPU time), "memory" (it
        died of a MemoryError), "killed" (by a signal, its own or the system's), "ended" (by us:
        nothing more was wanted of it).
      stdout, stderr: text, capped.
      seconds: wall time, without the start of the sandbox.
      code: exit status, negative for a signal; None where there was none.
      walls: those that stood, by name; see the module.
    """

    status: Outcome
    stdout: str
    stderr: str
    seconds: float
    code: int | None
    walls: tuple[str, ...]


def run_program(program: str, stdin: str = "", limits: Limits | None = None) -> Run:
    """Run a Python program to its end or its limits. Raises nothing for what it does."""
    with tempfile.TemporaryFile() as source:
        _fill(source, stdin)
        with Started({SCRIPT: program}, source.fileno(), limits or Limits()) as started:
            return started.finish()


class Started:
    """A program that runs, walled in; as a context, for nothing of it outlives its block.

    Attributes:
      files: those of its folder, name to text; `program.py` is run.
      stdin: an open file of this process.
    """

    def __init__(self, files: Mapping[str, str], stdin: int, limits: Limits) -> None:
        self._limits, self._held = limits, ExitStack()
        with ExitStack() as stack:  # a start that fails leaves nothing behind
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            request, self._report, self._out, self._err = (
                stack.enter_context(tempfile.TemporaryFile()) for _ in range(4)
            )
            order = {
                "files": dict(files),
                "folder": folder,
                "disk": limits.disk,
                "wall": limits.wall,
                "limits": limits.resources,
                "processes": limits.processes,
            }
            _fill(request, json.dumps(order))
            # Nobody writes to it: its end at the other side is that of this process or of `end`.
            life, self._life = os.pipe()
            stack.callback(self._let_go)
            handed = (request.fileno(), self._report.fileno(), life)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_LAUNCHER), *map(str, handed)],
                    stdin=stdin,
                    stdout=self._out,
                    stderr=self._err,
                    pass_fds=handed,
                    env={},
                    cwd=folder,
                    start_new_session=True,
                )
            finally:
                os.close(life)
            self._held = stack.pop_all()

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:  # an interrupt leaves nothing running either
        self.end()
        self._held.close()

    def end(self) -> None:
        """End it now, with whatever it started."""
        self._let_go()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def finish(self, patience: float | None = None) -> Run:
        """Wait for its end or its limits, or for `patience` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._limits.wall + _GRACE if patience is None else patience)
        self.end()
        lines = _text(self._report, self._limits.file).splitlines()
        stdout = _text(self._out, self._limits.output)
        return _record(lines, stdout, _text(self._err, self._limits.file), self._limits)

    def _let_go(self) -> None:
        if self._life >= 0:
            os.close(self._life)
        self._life = -1


def run_programs(
    programs: Sequence[str],
    stdins: Sequence[str] | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
) -> list[Run]:
    """Run many, `workers` (default: the machine's cores) at a time; results in their order."""
    stdins = [""] * len(programs) if stdins is None else stdins
    if len(stdins) != len(programs):
        raise ValueError(f"stdins: {len(stdins)} given for {len(programs)} programs; pass one each")
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run_program, programs, stdins, [limits] * len(programs)))


def _record(lines: list[str], stdout: str, stderr: str, limits: Limits) -> Run:
    walls = tuple(line.removeprefix("wall ") for line in lines if line.startswith("wall "))
    shown = stderr[-limits.output :]  # a traceback says last what went wrong
    end = lines[-1].split() if lines and lines[-1].startswith("end ") else None
    if end is None:
        return Run("killed", stdout, shown, limits.wall, None, walls)
    seconds = float(end[2])
    if end[1] in _CUT:
        return Run(_CUT[end[1]], stdout, shown, seconds, None, walls)
    code = int(end[1])
    status: Outcome = "ok" if code == 0 else "error" if code > 0 else "killed"
    # The limit on CPU time kills; a kill before that time came from elsewhere.
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and seconds >= limits.cpu):
        status = "timeout"
    if code == 1 and stderr.rstrip().rpartition("\n")[2].startswith("MemoryError"):
        status = "memory"
    return Run(status, stdout, shown, seconds, code, walls)


def _fill(file: IO[bytes], text: str) -> None:
    file.write(text.encode(errors="surrogatepass"))
    file.seek(0)


def _text(file: IO[bytes], size: int) -> str:
    file.seek(0)
    return file.read(size).decode(errors="replace")
