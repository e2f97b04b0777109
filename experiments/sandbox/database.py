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
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxdecode.child import Child

Outcome = Literal["ok", "error", "refused", "timeout", "rows"]
Cell = int | float | str | bytes | None

_WORKER = Path(__file__).with_name("database_worker.py")
_LONGEST = 20_000  # characters of a statement
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
        self, worker: Child, number: int, made: dict[str, Any], seconds: float, rows: int
    ) -> None:
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
        worker = _worker(f"{path.resolve().as_uri()}?mode=ro")
        return cls(worker, _FILE, {}, seconds, rows)

    def run(self, sql: str) -> Answer:
        """One statement, whatever a model wrote. Raises nothing for it.

        Raises:
          ValueError: the database itself cannot be opened or built.
        """
        start = time.monotonic()
        if len(sql) > _LONGEST:
            return Answer("error", (), f"a statement of {len(sql)} characters, over {_LONGEST}")
        request = {"number": self._number, "sql": sql, "seconds": self.seconds, "rows": self.rows}
        answer = self._worker.ask(request, self.seconds + _GRACE, self._made)
        if self._worker.greeting is None:
            raise ValueError("SQLite cannot open the file; pass a database")
        if answer is None:
            late = f"not done after {self.seconds} s: the process was ended"
            return Answer("timeout", (), late, time.monotonic() - start)
        if "status" not in answer:
            raise ValueError(f"the database cannot be built: {answer['error']}")
        rows = tuple(tuple(_cell(cell) for cell in row) for row in answer["rows"])
        return Answer(answer["status"], rows, answer["error"], time.monotonic() - start)

    def close(self) -> None:
        """A file's process is ended; databases in memory have nothing to close."""
        if self._worker is not _shared:
            self._worker.stop()

    @property
    def walls(self) -> tuple[str, ...]:
        """Those around its process, by name, once it has been asked."""
        return tuple((self._worker.greeting or {}).get("walls", ()))


def _show(cell: Cell) -> Any:
    """Bytes, and numbers that JSON has no word for, under a mark."""
    if isinstance(cell, bytes):
        return {"hex": cell.hex()}
    return {"float": repr(cell)} if isinstance(cell, float) and cell - cell != 0 else cell


def _cell(shown: Any) -> Cell:
    if isinstance(shown, dict):
        return bytes.fromhex(shown["hex"]) if "hex" in shown else float(shown["float"])
    return shown


def _worker(*file: str) -> Child:
    return Child([sys.executable, "-I", "-S", str(_WORKER), *file])


_numbers = itertools.count(1)
_shared = _worker()
