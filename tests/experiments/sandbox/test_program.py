"""Hostile programs, and honest ones beside them: what the record says, and what was left behind.

A wall that the system does not permit is not in `Run.walls`. Tests of such walls say "refused
exactly where the wall stands", so that a claim too many fails as a hole does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.sandbox.program import Limits, Run, run_program, run_programs

ROOMY = Limits(wall=20.0, cpu=10.0, memory=256 << 20, processes=6)
SHORT = replace(ROOMY, wall=1.5, cpu=1.0)

HONEST = {
    "answer": "print(int(input()) + 1)",
    "umlaut": "print('\\u00e9', open('note', 'w').write('x'), open('note').read())",
    "exit": "raise SystemExit(3)",
    "broken": "def f(:",
    "null": "print('\x00')",
}
GREEDY = {
    "memory": "x = []\nwhile True: x.append(bytearray(10**7))",
    "file": "open('x', 'w').write('a' * 10**7)",
    "output": "while True: print('x' * 1000)",
    "disk": "for i in range(64): open(f'x{i}', 'w').write('a' * 10**6)",
    "threads": "import threading, time\n"
    "for _ in range(50): threading.Thread(target=time.sleep, args=(0.1,)).start()",
    "forks": "import os\nfor _ in range(40):\n  if os.fork() == 0: __import__('time').sleep(60)",
}
CURIOUS = {
    "environment": "import os; print(sorted(os.environ), os.listdir('.'))",
    "descriptors": "import os\nfor i in range(3, 64):\n"
    "  try: os.fstat(i)\n  except OSError: continue\n  print(i)",
    "packages": "import numpy",
    "raise limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "own death": "import os; os.kill(os.getpid(), 9)",
    "crash": "import ctypes; ctypes.string_at(0)",
}
ENDLESS = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(60)",
    "fork bomb": "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
    "deaf": "import signal\nfor s in range(1, 32):\n"
    "  if s not in (9, 19): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
}


@pytest.fixture(scope="module")
def ran() -> dict[str, Run]:
    """Every program above, run once, many at a time."""
    calm = HONEST | GREEDY | CURIOUS
    runs = run_programs(list(calm.values()), ["41"] * len(calm), ROOMY, workers=4)
    late = run_programs(list(ENDLESS.values()), limits=SHORT, workers=4)
    return dict(zip([*calm, *ENDLESS], [*runs, *late], strict=True))


def test_honest_programs_run(ran):
    assert (ran["answer"].status, ran["answer"].stdout, ran["answer"].code) == ("ok", "42\n", 0)
    assert ran["umlaut"].stdout == "é 1 x\n"
    assert (ran["exit"].status, ran["exit"].code) == ("error", 3)
    assert "SyntaxError" in ran["broken"].stderr
    assert ran["null"].status == "error"


def test_limits_hold(ran):
    assert ran["memory"].status == "memory"
    for name in ("file", "output"):
        assert ran[name].status == "error"
        assert "File too large" in ran[name].stderr
    assert len(ran["output"].stdout) == ROOMY.output
    assert (ran["disk"].status == "error") == ("disk" in ran["disk"].walls)
    for name in ("threads", "forks"):
        assert (ran[name].status == "error") == ("limit NPROC" in ran[name].walls)
    assert all(run.seconds < ROOMY.wall for name, run in ran.items() if name not in ENDLESS)


def test_nothing_is_inherited(ran):
    names = ran["environment"].stdout
    assert names in ("['LC_CTYPE'] ['program.py']\n", "[] ['program.py']\n")
    assert (ran["descriptors"].status, ran["descriptors"].stdout) == ("ok", "")
    assert "No module named 'numpy'" in ran["packages"].stderr
    assert "not allowed to raise" in ran["raise limits"].stderr


def test_a_death_by_signal_is_told_apart(ran):
    assert (ran["own death"].status, ran["own death"].code) == ("killed", -signal.SIGKILL)
    assert (ran["crash"].status, ran["crash"].code) == ("killed", -signal.SIGSEGV)


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_ended(ran, name):
    assert ran[name].status == "timeout"
    assert ran[name].seconds < 20


def test_the_parent_survives():
    programs = [
        "import os; os.kill(os.getppid(), 9); print('shot')",
        "import os; os.killpg(os.getpgid(os.getppid()), 9)",
    ]
    for run in run_programs(programs, limits=ROOMY):
        # The keeper lives on to report the end, but where no wall protects it.
        assert (run.code is not None) == bool({"signals", "processes"} & set(run.walls))
        assert "shot" not in run.stdout or run.code is None


def test_nothing_is_left_behind():
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "  os.setsid()\n"
        "  if os.fork() == 0: time.sleep(7654.321)\n"
        "  os._exit(0)\n"
        "print('gone')"
    )
    before = leftovers()
    run = run_program(program, limits=ROOMY)
    assert (run.status, run.stdout) == ("ok", "gone\n")
    assert leftovers() <= before


def leftovers() -> set[Path]:
    """Processes that run a program of the sandbox."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended by now
            if b"program.py" in (process / "cmdline").read_bytes().split(b"\0"):
                found.add(process)
    return found


def test_outside_is_out_of_reach(tmp_path: Path):
    tmp_path.chmod(0o777)
    for folder in list(tmp_path.parents)[:2]:
        folder.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("token")
    secret.chmod(0o666)
    programs = [
        f"open({str(tmp_path / 'new')!r}, 'w').write('x')",
        f"print(open({str(secret)!r}).read())",
        f"open({str(secret)!r}, 'w').write('overwritten')",
        f"import os; os.remove({str(secret)!r})",
        f"import os; print(open(f'/proc/{os.getpid()}/environ').read())",
    ]
    runs = run_programs(programs, limits=ROOMY)
    if "files" in runs[0].walls:
        assert [run.status for run in runs] == ["error"] * len(runs)
        assert [path.name for path in tmp_path.iterdir()] == ["secret"]
        assert secret.read_text() == "token"
    else:
        assert (tmp_path / "new").exists() and not secret.exists()


def test_the_network_is_gone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run = run_program(
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)", limits=ROOMY
        )
    refused = {"network", "tcp"} & set(run.walls)
    assert (run.status == "error") == bool(refused)


def test_every_program_is_its_own_stranger():
    report = "import os; print(os.getuid(), os.getgid(), os.getgroups())"
    one, two = run_programs([report] * 2, limits=ROOMY)
    if "user" in one.walls:
        assert one.stdout != two.stdout
        assert str(os.getuid()) not in one.stdout.split()[:2]
    else:
        assert one.stdout == two.stdout


def test_the_walls_that_every_system_has(ran):
    limits = {"limit AS", "limit CPU", "limit FSIZE", "limit NOFILE", "limit CORE"}
    assert all(limits <= set(run.walls) for run in ran.values())
    if sys.platform == "linux":
        assert "limit NPROC" in ran["answer"].walls or os.getuid() == 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"wall=0: a limit must be positive"):
        Limits(wall=0)
    with pytest.raises(ValueError, match="stdins: 1 given for 2 programs"):
        run_programs(["", ""], [""])
