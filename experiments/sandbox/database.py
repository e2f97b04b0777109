"""Model-written SQL against a real SQLite database that it can read and do nothing else with.

    tables = Database.of(["create table items (net integer)", "insert into items values (3)"])
    tables.run("select net from items")      # Answer(status="ok", rows=((3,),), ...)
    tables.run("drop table items")           # Answer(status="refused", error="... not authorized")

Queries run in a process of their own, whose walls `database_worker` describes: within SQLite an
authorizer, a list of functions, a clock and limits on sizes; around it memory, files, network and
the rights of an unknown user. It is ended where a query overruns its time, and started again for
the next one. Databases in memory share one such process; a file has its own.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["ok", "error", "refused", "timeout", "rows"]
Cell = int | float | str | bytes | None

_WORKER = Path(__file__).with_name("database_worker.py")
_LONGEST = 20_000  # characters of a statement
_START = 30.0  # seconds for starting the process and building a database, on a busy machine
_GRACE = 2.0  # seconds beyond a statement's limit; the process's own alarm comes before
_FILE = 0  # the number of a file's database


@dataclass(frozen=True)
class Answer:
    """What one statement came to.

    Attributes:
      status: "ok"; "error" (SQLite's own complaint); "refused" (it is not a lone reading
        statement, or calls a function that is not on the list); "timeout"; "rows" (it gave more
        than the limits on rows and their size).
      rows: the result, complete where the status is "ok", else empty.
      error: the reason, empty for "ok".
      seconds: wall time.
    """

    status: Outcome
    rows: tuple[tuple[Cell, ...], ...] = ()
    error: str = ""
    seconds: float = 0.0


class Database:
    """A database to ask, from any thread; one statement runs at a time.

    Attributes:
      seconds: the most that a statement may take.
      rows: the most rows that it may give.
    """

    def __init__(
        self, worker: Worker, number: int, made: dict[str, Any], seconds: float, rows: int
    ):
        if not 0 < seconds < float("inf") or rows < 1:
            raise ValueError(f"seconds={seconds}, rows={rows}: both limits must be positive")
        self.seconds, self.rows = seconds, rows
        self._worker, self._number, self._made = worker, number, made

    @classmethod
    def of(
        cls,
        statements: Sequence[str],
        data: Sequence[Sequence[Cell]] = (),
        seconds: float = 1.0,
        rows: int = 1000,
    ) -> Database:
        """In memory, made by trusted statements; the last one is run for each row of `data`."""
        number = next(_numbers)
        shown = [[_show(cell) for cell in row] for row in data]
        made = {"make": number, "statements": list(statements), "data": shown}
        return cls(_shared, number, made, seconds, rows)

    @classmethod
    def open(cls, path: Path, seconds: float = 1.0, rows: int = 1000) -> Database:
        """A database file, such as those that text-to-SQL benchmarks come with."""
        if not path.is_file():
            raise ValueError(f"path={path} is not a file: pass a SQLite database")
        worker = Worker(f"{path.resolve().as_uri()}?mode=ro")
        return cls(worker, _FILE, {}, seconds, rows)

    def run(self, sql: str) -> Answer:
        """One statement, whatever a model wrote. Raises nothing for it."""
        start = time.monotonic()
        if len(sql) > _LONGEST:
            return Answer("error", (), f"a statement of {len(sql)} characters, over {_LONGEST}")
        request = {"number": self._number, "sql": sql, "seconds": self.seconds, "rows": self.rows}
        answer = self._worker.ask(request, self._made, self.seconds + _GRACE)
        if answer is None:
            late = f"not done after {self.seconds} s: the process was ended"
            return Answer("timeout", (), late, time.monotonic() - start)
        rows = tuple(tuple(_cell(cell) for cell in row) for row in answer["rows"])
        return Answer(answer["status"], rows, answer["error"], time.monotonic() - start)

    def close(self) -> None:
        """A file's process is ended; databases in memory have nothing to close."""
        if self._worker is not _shared:
            self._worker.stop()


class Worker:
    """The process that asks SQLite, started when it is needed.

    Attributes:
      walls: those around it, by name, once it has been asked.
    """

    def __init__(self, file: str | None = None):
        self.walls: tuple[str, ...] = ()
        self._file, self._lock = file, threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner = 0
        self._ender: weakref.finalize | None = None

    def ask(
        self, request: dict[str, Any], made: dict[str, Any], seconds: float
    ) -> dict[str, Any] | None:
        """The answer; None where it did not come in time.

        Args:
          made: the request that builds the database, sent where the process has it not.
        Raises:
          ValueError: the database cannot be built or opened.
        """
        with self._lock:
            try:
                if self._process is None or self._owner != os.getpid():
                    self._start()
                answer = self._exchange(request, seconds)
                if answer is not None and "missing" in answer:
                    if self._exchange(made, _START) is None:
                        raise ValueError(f"the database cannot be built by {made['statements']}")
                    answer = self._exchange(request, seconds)
            except BaseException:  # an answer that comes late is nobody else's
                self._end()
                raise
            if answer is None:
                self._end()
            return answer

    def stop(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> None:
        file = [] if self._file is None else [self._file]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_WORKER), *file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        self._owner = os.getpid()
        self._ender = weakref.finalize(self, _kill, self._process)
        standing = self._receive(_START)
        if standing is None:
            raise ValueError(f"{self._file}: SQLite cannot open it; pass a database file")
        self.walls = tuple(standing["walls"])

    def _end(self) -> None:
        if self._process is not None and self._owner == os.getpid() and self._ender is not None:
            self._ender()
        self._process = None

    def _exchange(self, request: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._receive(seconds)

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        assert self._process is not None and self._process.stdout is not None
        until, line = time.monotonic() + seconds, bytearray()
        file = self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([file], [], [], left)[0]:
                return None
            part = os.read(file, 1 << 20)
            if not part:
                return None
            line += part
        return json.loads(line)


def _kill(process: subprocess.Popen) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                continue
    process.wait()


def _show(cell: Cell) -> Any:
    """Bytes, and numbers that JSON has no word for, under a mark."""
    if isinstance(cell, bytes):
        return {"hex": cell.hex()}
    return {"float": repr(cell)} if isinstance(cell, float) and cell - cell != 0 else cell


def _cell(shown: Any) -> Cell:
    if isinstance(shown, dict):
        return bytes.fromhex(shown["hex"]) if "hex" in shown else float(shown["float"])
    return shown


_numbers = itertools.count(1)
_shared = Worker()
