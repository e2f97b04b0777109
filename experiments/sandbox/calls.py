"""Tests of a program that run in another process than the program.

    examine("def half(x): return x // 2", "assert ask('half')(5) == 2").passed      # True

Program and tests are two programs of the sandbox, each within walls of its own. A socket between
them is all that they share, and calls cross it as literals (`literals`): names and arguments one
way, results the other. The program never sees what is expected of it, cannot end the tests in
their favour, and cannot hand over an object that compares as it likes.

What remains possible for a program: to read all arguments it is called with and answer by heart,
to keep a state between calls, and, on a system where `Run.walls` lacks "files" and "user", to
look for the tests among the files of other processes. Tests that hand over or expect what is no
literal (a function, a generator, an object of the program's own class), or look at an argument
that the program changed, fail: a right program may be called wrong so, a wrong one never right.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.sandbox.program import SCRIPT, Limits, Run, Started

_SLACK = 10.0  # seconds that tests may wait beyond the program's own limit for it to start
_GOING = 0.5  # seconds that a program gets to leave once the tests are over
_LIBRARY = {
    name: Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("literals.py", "answering.py", "asking.py")
}
# An isolated interpreter does not look in its folder for modules.
_IMPORT = "import sys\nsys.path.insert(0, '.')\nimport {name}\ndel sys.path[0]\n"


@dataclass(frozen=True)
class Examined:
    """What became of the tests, and of the program that answered them."""

    tests: Run
    program: Run

    @property
    def passed(self) -> bool:
        """Whether the tests came to their end."""
        return self.tests.status == "ok"

    @property
    def run(self) -> Run:
        """The one that says why: the program where it ended on its own, else the tests."""
        alive = self.program.status in ("ok", "ended")
        return self.tests if self.passed or alive else self.program


def examine(program: str, tests: str, limits: Limits | None = None) -> Examined:
    """Put tests to a program, each under the limits given.

    `tests` is Python; `ask(name)` is there a function that the program answers for.
    """
    limits = limits or Limits()
    patient = replace(limits, wall=limits.wall + _SLACK)
    answer = _IMPORT.format(name="answering") + f"answering.main({program!r})\n"
    question = _IMPORT.format(name="asking") + f"ask = asking.ask\n{tests}"
    here, there = socket.socketpair()
    # An end of the socket that no process holds is the end for whoever waits at the other.
    with here, there, Started(_files(answer), there.fileno(), limits) as answering:
        there.close()
        with Started(_files(question), here.fileno(), patient) as asking:
            here.close()
            asked = asking.finish()
        # What ended by itself has said so by now; the rest may go.
        return Examined(asked, answering.finish(patience=_GOING))


def examine_all(
    pairs: Sequence[tuple[str, str]], limits: Limits | None = None, workers: int | None = None
) -> list[Examined]:
    """`examine` of (program, tests) pairs, `workers` (default: cores) at a time, in order."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(lambda pair: examine(pair[0], pair[1], limits), pairs))


def _files(main: str) -> dict[str, str]:
    return _LIBRARY | {SCRIPT: main}
