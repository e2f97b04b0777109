"""The process in which model-written queries run; `database` starts it by path and talks to it.

    python -I database_worker.py FILE          # FILE: a database to open, as a URI, or nothing

Requests are lines of JSON on standard input, answers lines on standard output: {"make": NUMBER,
"statements": [...], "data": [...]} builds a database in memory, {"number": NUMBER, "sql": TEXT,
"seconds": S, "rows": R} runs a query and gets {"status", "rows", "error"}. Bytes are {"hex": ...}.

Walls within SQLite: an authorizer that lets statements select, read columns, recurse and call the
functions named below; a progress handler that ends a statement at its time limit; limits on the
size of statements, values, patterns and results. Walls around it: memory, no file but the
database and the interpreter's own, no network, no Unix sockets, an unknown user's rights; and an
alarm that ends this process, for a single call of a function may run for minutes between two looks
at the clock. Standard library only.
"""

import json
import os
import signal
import sqlite3
import sys
import time
from collections import OrderedDict
from contextlib import closing

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import syscalls
import walls

_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
# Pure functions of their arguments and of the rows. Left out: what touches files or settings, what
# is drawn at random, and what allocates by a number alone (zeroblob, randomblob).
_NAMES = (
    "-> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat "
    "concat_ws cos cosh count cume_dist current_date current_time current_timestamp date datetime "
    "degrees dense_rank exp first_value floor format glob group_concat hex if ifnull iif instr "
    "json json_array json_array_length json_extract json_group_array json_group_object "
    "json_object json_quote json_type json_valid julianday lag last_value lead length like "
    "likelihood likely ln log log10 log2 lower ltrim match max min mod nth_value ntile nullif "
    "octet_length percent_rank pi pow power printf quote radians rank replace round row_number "
    "rtrim sign sin sinh soundex sqrt strftime string_agg substr substring sum tan tanh time "
    "timediff total trim trunc typeof unhex unicode unixepoch unlikely upper"
)
_FUNCTIONS = frozenset(_NAMES.split())
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,  # bytes of a value
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 20_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
_CLOCK_EVERY = 1000  # instructions of SQLite's machine between two looks at the clock
_SIZE = 10_000_000  # bytes of all rows together
_MEMORY = 512 << 20
_GRACE = 1.0  # seconds beyond a statement's limit until the alarm
_HELD = 200  # databases kept; the others are built again when they are asked

_until = 0.0


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else None
    databases = OrderedDict()
    if file is not None:
        connection = sqlite3.connect(file, uri=True)
        connection.execute("select 1 from sqlite_master").fetchall()  # opened, not only named
        databases[0] = _wall_in(connection)
    say = os.fdopen(os.dup(1), "w")
    standing = _walls()
    print(json.dumps({"walls": sorted(standing)}), file=say, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "make" in request:
            try:
                databases[request["make"]] = _wall_in(_make(request["statements"], request["data"]))
                answer = {"made": request["make"]}
            except (sqlite3.Error, ValueError) as error:
                answer = {"error": str(error)}
        elif request["number"] not in databases:
            answer = {"missing": request["number"]}
        else:
            databases.move_to_end(request["number"])
            signal.setitimer(signal.ITIMER_REAL, request["seconds"] + _GRACE)
            answer = _run(databases[request["number"]], request)
            signal.setitimer(signal.ITIMER_REAL, 0)
        while len(databases) > _HELD:
            databases.popitem(last=False)[1].close()
        print(json.dumps(answer), file=say, flush=True)


def _walls() -> set[str]:
    user = walls.stranger(os.getpid())
    standing = walls.namespaces() - {"processes", "mounts"}  # those would hold its children
    standing |= walls.landlock(None)
    if user is not None and walls.become(user):
        standing.add("user")
    most = {"AS": _MEMORY, "FSIZE": 0, "CORE": 0, "NPROC": 0}
    standing |= walls.limits(most)
    if syscalls.refuse_calls():
        standing.add("calls")
    return standing


def _make(statements: list, data: list) -> sqlite3.Connection:
    """By trusted statements; the last one is run for each row of `data`."""
    connection = sqlite3.connect(":memory:")
    for statement in statements[: -1 if data else None]:
        connection.execute(statement)
    if data:
        connection.executemany(statements[-1], [[_cell(cell) for cell in row] for row in data])
    connection.commit()
    return connection


def _wall_in(connection: sqlite3.Connection) -> sqlite3.Connection:
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.execute("pragma temp_store = memory")  # no file can be made to sort in
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: time.monotonic() > _until, _CLOCK_EVERY)
    return connection


def _run(connection: sqlite3.Connection, request: dict) -> dict:
    global _until
    _until = time.monotonic() + request["seconds"]
    rows, size = [], 0
    try:
        with closing(connection.execute(request["sql"])) as cursor:
            if cursor.description is None:  # as of an empty text, which is no error to SQLite
                return _answer("error", error="no statement that gives rows")
            for row in cursor:
                rows.append([_show(cell) for cell in row])
                size += sum(len(cell) for cell in row if isinstance(cell, (str, bytes)))
                if len(rows) > request["rows"] or size > _SIZE:
                    return _answer("rows", error=f"more than {request['rows']} rows or {_SIZE} B")
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return _answer(_complaint(error), error=str(error)[:1000])
    except MemoryError:
        return _answer("error", error="out of memory")
    return _answer("ok", rows)


def _answer(status: str, rows: list | None = None, error: str = "") -> dict:
    return {"status": status, "rows": rows or [], "error": error}


def _show(cell: object) -> object:
    """Bytes, and numbers that JSON has no word for, under a mark."""
    if isinstance(cell, bytes):
        return {"hex": cell.hex()}
    return {"float": repr(cell)} if isinstance(cell, float) and cell - cell != 0 else cell


def _cell(shown: object) -> object:
    if isinstance(shown, dict):
        return bytes.fromhex(shown["hex"]) if "hex" in shown else float(shown["float"])
    return shown


def _complaint(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT:
        return "timeout"
    # Functions that are denied come back as plain errors, told apart by their text alone.
    denied = any(text in str(error) for text in ("one statement at a time", "not authorized"))
    return "refused" if denied or code == sqlite3.SQLITE_AUTH else "error"


def _authorize(action: int, one: str | None, two: str | None, *_: str | None) -> int:
    # The second argument of a function's use is its name.
    if action not in _ACTIONS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (two or "").lower() not in _FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


if __name__ == "__main__":
    main()
