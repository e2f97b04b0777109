"""Model-written SQL against a real SQLite database that it can read and do nothing else with.

    tables = Database.of(["create table items (net integer)", "insert into items values (3)"])
    tables.run("select net from items")      # Answer(status="ok", rows=((3,),), ...)
    tables.run("drop table items")           # Answer(status="refused", error="... not authorized")

Walls, whichever way the database was opened: an authorizer lets statements select, read columns,
recurse and call functions, and refuses all others (writes, attached files, pragmas, transactions);
a progress handler ends a statement at its time limit; rows and their size are counted as they
come; SQLite's own limits cap the length of a statement, of a value and of a pattern. A file is
opened in read-only mode besides.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["ok", "error", "refused", "timeout", "rows"]
Cell = int | float | str | bytes | None

_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,  # bytes of a value, so of what `zeroblob` may ask for
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,  # a long pattern runs between two clock reads
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_CLOCK_EVERY = 1000  # instructions of SQLite's machine between two looks at the clock
_SIZE = 10_000_000  # bytes of all rows together


@dataclass(frozen=True)
class Answer:
    """What one statement came to.

    Attributes:
      status: "ok"; "error" (SQLite's own complaint); "refused" (it is not a lone reading
        statement); "timeout"; "rows" (it gave more than the limits on rows and their size).
      rows: the result, complete where the status is "ok", else empty.
      error: the reason, empty for "ok".
      seconds: wall time.
    """

    status: Outcome
    rows: tuple[tuple[Cell, ...], ...] = ()
    error: str = ""
    seconds: float = 0.0


class Database:
    """A database to ask. Not shared between threads, like the connection in it.

    Attributes:
      seconds: the most that a statement may take.
      rows: the most rows that it may give.
    """

    def __init__(self, connection: sqlite3.Connection, seconds: float = 1.0, rows: int = 1000):
        if seconds <= 0 or rows < 1:
            raise ValueError(f"seconds={seconds}, rows={rows}: both limits must be positive")
        self.seconds, self.rows = seconds, rows
        self._connection, self._until = connection, 0.0
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(self._late, _CLOCK_EVERY)

    @classmethod
    def of(
        cls, statements: Sequence[str], data: Sequence[Sequence[Cell]] = (), **limits
    ) -> Database:
        """In memory, made by trusted statements; the last one is run for each row of `data`."""
        connection = sqlite3.connect(":memory:")
        for statement in statements[: -1 if data else None]:
            connection.execute(statement)
        if data:
            connection.executemany(statements[-1], data)
        connection.commit()
        return cls(connection, **limits)

    @classmethod
    def open(cls, path: Path, **limits) -> Database:
        """A database file, such as those that text-to-SQL benchmarks come with."""
        if not path.is_file():
            raise ValueError(f"path={path} is not a file: pass a SQLite database")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        return cls(sqlite3.connect(uri, uri=True), **limits)

    def run(self, sql: str) -> Answer:
        """One statement, whatever a model wrote. Raises nothing for it."""
        start = time.monotonic()
        self._until = start + self.seconds
        status, rows, error = self._run(sql)
        return Answer(status, rows, error, time.monotonic() - start)

    def close(self) -> None:
        self._connection.close()

    def _run(self, sql: str) -> tuple[Outcome, tuple[tuple[Cell, ...], ...], str]:
        rows, size = [], 0
        try:
            with closing(self._connection.execute(sql)) as cursor:
                if cursor.description is None:  # as of an empty text, which is no error to SQLite
                    return "error", (), "no statement that gives rows"
                for row in cursor:
                    rows.append(row)
                    size += sum(len(cell) for cell in row if isinstance(cell, str | bytes))
                    if len(rows) > self.rows or size > _SIZE:
                        return "rows", (), f"more than {self.rows} rows or {_SIZE} bytes"
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return self._complaint(error), (), str(error)
        return "ok", tuple(rows), ""

    def _late(self) -> bool:
        return time.monotonic() > self._until

    @staticmethod
    def _complaint(error: Exception) -> Outcome:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_INTERRUPT:
            return "timeout"
        # Functions that are denied come back as plain errors, told apart by their text alone.
        denied = any(text in str(error) for text in ("one statement at a time", "not authorized"))
        return "refused" if denied or code == sqlite3.SQLITE_AUTH else "error"


def _authorize(action: int, one: str | None, two: str | None, *_: str | None) -> int:
    # The second argument of a function's use is its name; files are none of a query's business.
    if action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and two == "load_extension"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
