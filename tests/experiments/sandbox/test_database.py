"""Queries that read are answered; queries that write, wander or never end are not."""

from __future__ import annotations

import sqlite3
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
    assert tables.run("select zeroblob(100000000)").status == "error"
    wide = Database.of(MAKE, DATA, rows=10_000)
    assert wide.run(ENDLESS + "select randomblob(90000) from c limit 5000").status == "rows"


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
    with pytest.raises(ValueError, match="both limits must be positive"):
        Database.of(MAKE, DATA, rows=0)
