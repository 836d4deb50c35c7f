"""Mode cursor misses nothing in MariaDB: its own ways of writing behind the highest cursor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pytest

from repl_pipelines.errors import CursorUnusable, DeclarationError
from repl_pipelines.model.selection import Since
from repl_pipelines.model.table import Declaration, Deletes
from repl_pipelines.sources.mariadb import open_transactions
from repl_pipelines.sources.mariadb.connection import Protection, connect, rows
from repl_pipelines.sync.engine import Replication
from tests.mariadb.world import Shop, transaction

# Without reconciliation nothing but the horizon can find the row.
DECLARATION = Declaration("t", cursor="at", deletes=Deletes.IGNORE)
MADE = (
    "create table t (id bigint primary key, at datetime(6) default now(6), note text, index (at))",
    "insert into t (id) values (1)",
)


def late_commit(shop: Shop, sync: Callable[[], None]) -> None:
    with transaction(shop) as late:
        rows(late, "insert into t (id) values (10)")
        shop.sql("insert into t (id) values (11)")
        sync()
        rows(late, "commit")


def savepoints_and_rollbacks(shop: Shop, sync: Callable[[], None]) -> None:
    with transaction(shop) as late:
        rows(late, "insert into t (id) values (20)")
        rows(late, "savepoint a")
        rows(late, "insert into t (id) values (21)")
        shop.sql("insert into t (id) values (22)")
        rows(late, "rollback to savepoint a")
        sync()
        rows(late, "commit")


def waits_for_a_lock_on_the_table(shop: Shop, sync: Callable[[], None]) -> None:
    """Its NOW() is fixed, and no transaction of it is to be seen."""
    with transaction(shop) as reader, closing(connect(shop.address, Protection(), "w")) as writer:
        rows(reader, "lock tables t read")
        late = threading.Thread(target=rows, args=(writer, "insert into t (id) values (30)"))
        late.start()
        waiting(shop, "insert into t (id) values (30)")
        sync()
        rows(reader, "unlock tables")
        late.join()


def prepared(shop: Shop, sync: Callable[[], None]) -> None:
    with closing(connect(shop.address, Protection(), "w")) as late:
        rows(late, "xa start 'late'")
        rows(late, "insert into t (id) values (40)")
        rows(late, "xa end 'late'")
        rows(late, "xa prepare 'late'")
        shop.sql("insert into t (id) values (41)")
        sync()
        rows(late, "xa commit 'late'")


def waiting(shop: Shop, statement: str) -> None:
    deadline = time.monotonic() + 30
    query = "select count(*) from information_schema.processlist where info = %s"
    while rows(shop.connection, query, statement) != ((1,),):
        assert time.monotonic() < deadline
        time.sleep(0.02)


STORIES = [late_commit, savepoints_and_rollbacks, waits_for_a_lock_on_the_table, prepared]


@pytest.fixture
def table(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    # The rule itself, not its slack, nor that for zones of sessions.
    monkeypatch.setattr(open_transactions, "MARGIN", open_transactions.MARGIN * 0)
    monkeypatch.setattr("repl_pipelines.sources.horizon.ZONE_MARGIN", open_transactions.MARGIN)
    shop.sql(*MADE)
    return shop


def play(shop: Shop, story: Callable[[Shop, Callable[[], None]], None]) -> Replication:
    replication = shop.replication(DECLARATION)

    def sync() -> None:
        report = replication.sync()
        assert not report.failed, report.failed

    sync()
    story(shop, sync)
    sync()
    return replication


@pytest.mark.parametrize("story", STORIES)
def test_no_row_is_missed(table: Shop, story: Callable[..., None]) -> None:
    replication = play(table, story)
    [found] = replication.tables()
    assert table.in_lake(found) == table.in_source(found)


@pytest.mark.parametrize(
    ("story", "careless"),
    [
        (late_commit, "transactions"),
        (waits_for_a_lock_on_the_table, "statements"),
        (prepared, "prepared"),
    ],
)
def test_the_stories_catch_what_is_left_out(
    table: Shop, monkeypatch: pytest.MonkeyPatch, story: Callable[..., None], careless: str
) -> None:
    """Each thing that is looked at for the horizon, not looked at, loses a row."""
    dialect = table.address.dialect
    nothing = {
        "transactions": (
            open_transactions,
            "_TRANSACTIONS",
            open_transactions._TRANSACTIONS + " where trx_mysql_thread_id = connection_id() or"
            " trx_started > now() or trx_rows_modified = 0",
        ),
        "statements": (dialect, "statements", dialect.statements + " and false"),
        "prepared": (open_transactions, "_PREPARED", "select 1 from dual where false"),
    }
    monkeypatch.setattr(*nothing[careless])
    if careless == "prepared":  # it is among the open ones, too, with its start
        monkeypatch.setattr(*nothing["transactions"])
    replication = play(table, story)
    [found] = replication.tables()
    assert len(table.in_lake(found)) == len(table.in_source(found)) - 1


def test_what_cannot_be_a_cursor_is_said(shop: Shop) -> None:
    shop.sql("create table t (id bigint unsigned primary key, at time, note text)")
    for column in ("id", "at", "note"):
        with pytest.raises(CursorUnusable, match=f"'{column}'"):
            shop.source.discover([Declaration("t", cursor=column)])


def test_a_replica_is_refused(table: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The applier of a replica stands in the list of statements."""
    dialect = table.address.dialect
    applier = "select true, now(6) union all " + dialect.statements
    monkeypatch.setattr(dialect, "statements", applier)
    tables = table.source.discover([DECLARATION])
    with pytest.raises(DeclarationError, match="is a replica"), table.source.snapshot(tables):
        pass


def test_whole_numbers_settle_when_older_transactions_have_ended(table: Shop) -> None:
    [numbered] = table.source.discover([Declaration("t", cursor="id")])
    with transaction(table) as late:
        rows(late, "insert into t (id) values (2)")
        table.sql("insert into t (id) values (3)")
        with table.source.snapshot([numbered]) as snapshot:
            first = snapshot.horizon(numbered, None)
            assert snapshot.figures(numbered, Since(first)).total.rows == 2  # all it shows
        rows(late, "commit")
    time.sleep(1.1)  # starts are whole seconds
    with table.source.snapshot([numbered]) as snapshot:
        second = snapshot.horizon(numbered, first)
        assert snapshot.figures(numbered, Since(first)).total.rows == 3
        assert snapshot.figures(numbered, Since(second)).total.rows == 1
        assert snapshot.position.at <= datetime.now(UTC)
