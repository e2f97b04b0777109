"""Programs that try to pass without being right, beside programs that are: none of them does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from experiments import sandbox
from experiments.sandbox import literals
from experiments.sandbox.calls import Examined, examine, examine_all
from experiments.sandbox.program import Limits, run_program
from tests.experiments.sandbox.test_program import leftovers

SANDBOX = Path(sandbox.__file__).parent
LIMITS = Limits(wall=20.0, cpu=1.0, memory=128 << 20, processes=4)
TESTS = """
half = ask('half')
assert half(5) == 2, 'expected secret'
assert half(x=-1) == -1
"""

HONEST = {
    "right": "def half(x): return x // 2",
    "noisy": "print('loading')\ndef half(x):\n  print(x)\n  return x // 2",
    "own class": "class N(int): pass\ndef half(x): return N(x // 2)",
    "helper": "def other(x): return x // 2\nhalf = other",
    "threaded": "import threading, time\nthreading.Thread(target=time.sleep, args=(9,)).start()\n"
    "def half(x): return x // 2",
}
FORGED = {
    "wrong": "def half(x): return x",
    "leaves": "raise SystemExit(0)",
    "leaves hard": "import os; os._exit(0)",
    "leaves when called": "import os\ndef half(x): os._exit(0)",
    "equal to all": "class E:\n  def __eq__(s, o): return True\ndef half(x): return E()",
    "equal number": "class E(int):\n  def __eq__(s, o): return True\ndef half(x): return E(7)",
    "own truth": "class E:\n  __eq__ = lambda s, o: s\n  __bool__ = lambda s: True\n"
    "def half(x): return E()",
    "prints a mark": "import sys\nfor i in range(30): print('passed', i)\ndef half(x): return 0",
    "answers by itself": "import os\nfor i in range(3, 64):\n  try: os.write(i, b'[true]\\n' * 9)\n"
    "  except OSError: pass\ndef half(x): return 0",
    "answers in advance": "import os\nfor i in range(3, 64):\n"
    '  try: os.write(i, b\'{"tuple": ["value", 7]}\\n\' * 9)\n'
    "  except OSError: pass\ndef half(x): return 0",
    "floods": "import os\nfor i in range(3, 64):\n"
    "  try: os.write(i, b'x' * 10**7)\n  except OSError: pass\ndef half(x): return 0",
    "runs itself optimised": "import os, sys\n"
    "def half(x): os.execv(sys.executable, [sys.executable, '-O', 'program.py'])",
    "changes what tests use": "import builtins, sys\nbuiltins.AssertionError = Warning\n"
    "sys.excepthook = lambda *a: None\ndef half(x): raise SystemExit(0)",
    "reads the tests": "import glob\nfound = [open(f).read() for f in glob.glob('/tmp/*/work/*')]\n"
    "def half(x): return 2 if x == 5 and any('expected' 'secret' in f for f in found) else 0",
    "raises": "def half(x): raise SystemExit(0)",
    "raises odd": "class E(Exception):\n  def __str__(s): raise KeyError\ndef half(x): raise E()",
    "deep": "def half(x):\n  r = []\n  for i in range(10**5): r = [r]\n  return r",
    "cyclic": "r = []\nr.append(r)\ndef half(x): return r",
    "huge": "def half(x): return [0] * 10**6",
    "huge number": "def half(x): return 1 << 10**8",
    "colliding": "def half(x): return {i * (2**61 - 1) for i in range(10**4 + 1)}",
    "broken": "def half(x:",
    "endless": "def half(x):\n  while True: pass",
    "greedy": "def half(x):\n  a = []\n  while True: a.append(bytearray(10**7))",
    "suicidal": "import os\ndef half(x): os.kill(os.getpid(), 9)",
}


@pytest.fixture(scope="module")
def done() -> dict[str, Examined]:
    both = HONEST | FORGED
    found = examine_all([(text, TESTS) for text in both.values()], LIMITS, workers=2)
    return dict(zip(both, found, strict=True))


@pytest.mark.parametrize("name", HONEST)
def test_right_programs_pass(done, name):
    assert done[name].passed, done[name].run


@pytest.mark.parametrize("name", FORGED)
def test_no_other_program_passes(done, name):
    assert not done[name].passed
    assert done[name].program.seconds < 5
    assert LIMITS.memory * LIMITS.processes < 2**30


def test_the_record_says_why(done):
    said = {name: examined.run for name, examined in done.items()}
    assert "expected secret" in said["wrong"].stderr
    assert "SyntaxError" in said["broken"].stderr
    assert (said["endless"].status, said["greedy"].status) == ("timeout", "memory")
    assert (said["suicidal"].status, said["suicidal"].code) == ("killed", -signal.SIGKILL)
    assert "a E, which is no literal" in said["equal to all"].stderr
    assert "expected secret" in said["equal number"].stderr  # 7 crosses as 7
    assert "more than" in said["deep"].stderr and "more than" in said["cyclic"].stderr


def test_exceptions_cross_by_name():
    program = "class Own(ValueError): pass\ndef f(x):\n  raise [KeyError('k'), Own('o')][x]"
    tests = """
for x, kind in enumerate((KeyError, RuntimeError)):
    try: ask('f')(x)
    except kind as error: print(error)
    else: raise SystemExit(1)
"""
    found = examine(program, tests, LIMITS)
    assert found.passed and found.tests.stdout.splitlines()[1] == "Own: o"


VALUES = [
    *(None, True, 0, -1, 2**53, -(2**200), 0.1, float("inf"), 1e-320, 2 - 3j, "", "\ud800\n\0é"),
    *(b"\x00\xff", [], (), set(), frozenset({1}), {}, [1, [2, (3, {4: {5, "6"}})]]),
    {(1, 2): [None], "a": {b"b": 0.5}},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_literals_come_as_they_were(value):
    back = literals.loads(literals.dumps(value))
    assert back == value and type(back) is type(value)
    assert "\n" not in literals.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1.5", "NaN", "[]", "{}", '{"list": 3}', '{"set": [{"list": []}]}', '{"a": 1}'),
        *('{"int": "zz"}', '{"dict": [[1]]}', '{"dict": [1]}', '{"complex": ["1"]}', "9" * 30),
        *('{"float": "x"}', '{"float": 3}', '{"bytes": "0"}', '{"tuple": [], "list": []}'),
        *("[" * 99999, '{"list":[' * 99 + "]}" * 99, '{"list": [' + "1," * 10**5 + "1]}"),
        '{"set": [' + "1," * 10_000 + "1]}",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_literal_is_refused(text):
    with pytest.raises(literals.Unspeakable):
        literals.loads(text)


REACHING = {
    "shared memory": "shmget(0, 1 << 20, 0o1600)",
    "semaphores": "semget(0, 1, 0o1600)",
    "messages": "msgget(0, 0o1600)",
    "memory files": "memfd_create(b'x', 0)",
    "name spaces": "unshare(0x10000000)",
    "tracing": "ptrace(0, 0, 0, 0)",
}


@pytest.mark.parametrize("name", REACHING)
def test_calls_around_the_walls_are_refused(name):
    call = REACHING[name]
    run = run_program(
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print(libc.{call}, ctypes.get_errno())",
        limits=LIMITS,
    )
    if "calls" in run.walls:
        assert run.stdout == "-1 1\n"


def test_a_unix_socket_is_out_of_reach(tmp_path: Path):
    path = Path("/tmp") / f"reach-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, contextlib.suppress(FileNotFoundError):
        server.bind(str(path))
        try:
            path.chmod(0o777)
            server.listen()
            run = run_program(
                f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})\n"
                "print('reached')",
                limits=LIMITS,
            )
        finally:
            path.unlink()
        assert ("reached" in run.stdout) == (not {"calls", "root"} & set(run.walls))
    pairs = "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))"
    assert run_program(pairs, limits=LIMITS).stdout == "b'x'\n"


ROOTED = """
    import ctypes, os, socket, sys
    sys.path.insert(0, {sandbox!r})
    import roots, walls
    if {stranger}:
        assert walls.become(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # its own again, for its user space to be described
    def reached():
        with socket.socket(socket.AF_UNIX) as s:
            try: s.connect({socket!r})
            except FileNotFoundError: return False
        return True
    print(reached(), "mounts" in walls.namespaces() and walls.own_mounts())
    os.chdir({place!r})
    print(roots.own_root({place!r} + "/root", [{place!r}]))
    print(reached(), os.path.exists({socket!r} + "/../.."), os.listdir("."), os.listdir("/"))
"""


@pytest.mark.parametrize("stranger", [False, True])
def test_in_a_root_of_its_own_no_socket_has_a_path(stranger):
    """By itself, with no other wall, for root and for who is not."""
    if stranger and os.getuid():
        pytest.skip("only root can become another")
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}.socket")
        try:
            server.listen()
            Path(place, "root").mkdir()
            for path in (f"{place}.socket", place, f"{place}/root"):
                os.chmod(path, 0o777)
            names = {"socket": f"{place}.socket", "place": place, "stranger": stranger}
            code = textwrap.dedent(ROOTED).format(sandbox=str(SANDBOX), **names)
            command = [sys.executable, "-I", "-S", "-c", code]
            said = subprocess.run(command, capture_output=True, text=True, check=True)
        finally:
            os.unlink(f"{place}.socket")
    first, stands, then = said.stdout.splitlines()
    assert first.startswith("True")
    if stands == "True":
        assert first == "True True"
        assert then.startswith("False False ['root'] [") and "'proc'" not in then
    else:
        assert then.startswith("True")


def test_a_killed_parent_leaves_nothing(tmp_path: Path):
    """Neither the program, nor its folder: long before the program's own limit."""
    code = """
        import tempfile
        from experiments.sandbox.program import Limits, run_program
        tempfile.tempdir = {folder!r}
        run_program("import time; open('begun', 'w'); time.sleep(50)", limits=Limits(wall=60.0))
    """
    tmp_path.chmod(0o755)
    before = leftovers()
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code).format(folder=str(tmp_path))]
    )
    wait_for(lambda: leftovers() - before)
    parent.kill()
    parent.wait()
    wait_for(lambda: not leftovers() - before)
    wait_for(lambda: not list(tmp_path.iterdir()))


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
