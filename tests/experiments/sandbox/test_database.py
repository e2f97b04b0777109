"""Queries that read are answered; queries that write, wander or never end are not."""

from __future__ import annotations

import os
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.sandbox.database import Database

ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) "
MAKE = ["create table items (net integer, name text)", "insert into items values (?, ?)"]
DATA = [(3, "a"), (5, "b"), (5, None)]


@pytest.fixture(scope="module")
def tables() -> Database:
    return Database.of(MAKE, DATA, seconds=0.2, rows=50)


def test_a_query_is_answered(tables):
    answer = tables.run("select net, count(*) from items group by net order by net")
    assert (answer.status, answer.rows, answer.error) == ("ok", ((3, 1), (5, 2)), "")
    assert tables.run("select name from items where net > 9").rows == ()
    assert tables.run("with t as (select 1 as x) select upper('a'), x from t").rows == (("A", 1),)


@pytest.mark.parametrize(
    "sql",
    [
        "drop table items",
        "insert into items values (1, 'x')",
        "insert into items values (1, 'x') returning net",
        "update items set net = 0",
        "delete from items",
        "create temp table mine (x)",
        "attach ':memory:' as other",
        "pragma query_only = off",
        "vacuum into '/tmp/copy.db'",
        "begin",
        "select load_extension('x')",
        "select * from pragma_user_version",
        "select net from items; drop table items",
    ],
)
def test_what_does_more_than_read_is_refused(tables, sql):
    answer = tables.run(sql)
    assert (answer.status, answer.rows) == ("refused", ())
    assert answer.error
    assert tables.run("select count(*) from items").rows == ((3,),)


@pytest.mark.parametrize(
    "sql",
    ["", "-- nothing", "selec net", "select nope from items", "select \x00", "select '\ud800'"],
)
def test_what_is_no_query_is_an_error(tables, sql):
    answer = tables.run(sql)
    assert (answer.status, answer.rows) == ("error", ())
    assert answer.error


def test_what_never_ends_is_ended(tables):
    answer = tables.run(ENDLESS + "select count(*) from c")
    assert answer.status == "timeout"
    assert 0.2 <= answer.seconds < 5
    assert tables.run("select 1").status == "ok"


def test_what_gives_too_much_is_cut(tables):
    assert tables.run(ENDLESS + "select x from c").status == "rows"
    assert len(tables.run(ENDLESS + "select x from c limit 50").rows) == 50
    wide = Database.of(MAKE, DATA, rows=10_000)
    long = "select printf('%.*c', 90000, 'x') from c limit 5000"
    assert wide.run(ENDLESS + long).status == "rows"
    assert wide.run("select " + "1," * 20_000 + "1").status == "error"


@pytest.mark.parametrize(
    ("status", "sql"),
    [
        ("refused", "select hex(zeroblob(100000000))"),
        ("refused", "select length(randomblob(1000000000))"),
        ("refused", "select random()"),
        ("error", "select readfile('/etc/passwd')"),
        ("refused", "select fts3_tokenizer('x')"),
        ("refused", "select sqlite_compileoption_get(1)"),
        ("timeout", "select printf('%.*c', 2000000000, 'x')"),
        ("timeout", "select format('%.*c', 2000000000, 'x')"),
        ("timeout", ENDLESS + "select group_concat(x) from c"),
        ("timeout", ENDLESS + "select x from c order by -x"),
        ("error", "select replace(printf('%.*c', 90000, 'a'), 'a', 'bbbbbbbb')"),
        ("error", "select hex(printf('%.*c', 90000, 'a'))"),
        ("error", "select " + "(" * 5000 + "1" + ")" * 5000),
        ("error", "select 1 where " + "1 and " * 3000 + "1"),
        (
            "ok timeout",
            "select instr(printf('%.*c', 90000, 'a'), printf('%.*c', 9999, 'a') || 'b')",
        ),
        ("ok", "select 1e999, -1e999, x'00ff', 'a' || char(0)"),
    ],
)
def test_hostile_queries_are_contained(tables, status, sql):
    answer = tables.run(sql)
    assert answer.status in status.split(), answer.error
    assert answer.seconds < 5
    assert tables.run("select count(*) from items").rows == ((3,),)
    memory = worker_memory(tables)
    assert memory is None or memory < 2**30


def worker_memory(tables: Database) -> int | None:
    """The most that the process which ran it has held, in bytes; None where nothing says so."""
    process = tables._worker.process
    status = Path(f"/proc/{process.pid if process else 0}/status")
    if not status.exists():
        return None
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024


def test_values_come_as_they_are_stored(tables):
    answer = tables.run("select 1e999, -1e999, x'00ff', 'a' || char(0), null, 0.5")
    assert answer.rows == ((float("inf"), float("-inf"), b"\x00\xff", "a\0", None, 0.5),)


def test_any_thread_may_ask_and_each_gets_its_own_answer(tables):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: tables.run(f"select {n}"), range(100)))
    assert [answer.rows for answer in answers] == [((n,),) for n in range(100)]


def test_an_answer_that_was_not_awaited_is_nobody_elses(tables, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables._worker, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tables.run("select 41")
    assert tables.run("select 42").rows == ((42,),)


def test_the_walls_around_queries(tables):
    tables.run("select 1")
    walls = set(tables.walls)
    assert {"limit AS", "limit FSIZE", "limit CORE"} <= walls
    if sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64"):
        assert "calls" in walls


def test_a_file_is_read_and_not_written(tmp_path: Path):
    path = tmp_path / "shop.db"
    made = sqlite3.connect(path)
    made.execute("create table items (net)")
    made.execute("insert into items values (7)")
    made.commit()
    made.close()
    before = path.read_bytes()
    database = Database.open(path)
    assert database.run("select net from items").rows == ((7,),)
    assert database.run("delete from items").status == "refused"
    database.close()
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="is not a file"):
        Database.open(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database, but a text of some length " * 99)
    with pytest.raises(ValueError, match="SQLite cannot open"):
        Database.open(tmp_path / "text.db").run("select 1")
    with pytest.raises(ValueError, match=r"cannot be built: near .creat."):
        Database.of(["creat table x"]).run("select 1")
    with pytest.raises(ValueError, match="both limits must be positive"):
        Database.of(MAKE, DATA, rows=0)
