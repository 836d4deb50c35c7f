"""Mode log on MariaDB and MySQL in a replication: streamed, and healed by difference."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from repl_pipelines.errors import HistoryGap, NotProven
from repl_pipelines.lake.history import History
from repl_pipelines.model.entry import Action
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.position import Position
from repl_pipelines.model.selection import Keys, Selection
from repl_pipelines.model.table import Declaration, Mode, Table
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.mariadb.connection import Address
from repl_pipelines.sources.mariadb.snapshot import MariadbSnapshot
from repl_pipelines.sync import log as sync_log
from repl_pipelines.sync.forecast import Move, forecast
from repl_pipelines.sync.work import Work
from tests.servers import Bucket
from tests.sync.marias import LOG, Maria, following

SHOP = (
    "create table orders (id int primary key, total int, note varchar(99))",
    """create table parts (id int primary key, o int, word varchar(9) character set gbk, doc json,
         twice int as (o * 2) virtual, foreign key (o) references orders (id) on delete cascade)""",
    "insert into orders select seq, seq, repeat('x', 90) from seq_1_to_400",
    "insert into parts (id, o, word) select seq, seq, '汉字' from seq_1_to_300",
)


@pytest.fixture
def shop(family_database: Address, bucket: Bucket) -> Iterator[Maria]:
    with following(family_database, bucket, *SHOP) as shop:
        yield shop


def base_files(shop: Maria, name: str) -> set[str]:
    return {f.path for f in shop.lake.table(shop.name(name)).files() if f.layer == "base"}


def test_copies_follow_the_log_and_heal_by_difference(shop: Maria) -> None:
    base = base_files(shop, "orders")
    shop.sql("insert into orders values (999, 1, null)")
    ahead = forecast(shop.replication)
    assert {table.move for table in ahead.tables} == {Move.CHANGES}
    assert ahead.log
    assert ahead.log > 100
    entries = shop.streamed(
        "insert into orders values (1000, 1, null)",
        "update orders set id = id + 5000 where id > 390",
        "insert into parts (id, o, word) values (900, 5, '字'), (901, 6, null)",
        "update parts set o = 7, word = '汉' where id = 901",
        "update parts set id = 902 where id = 900",
        """update parts set doc = '{"b": 2.50, "a": [1]}' where id = 902""",
    )
    assert entries["orders"].changed == 2 + 2 * 12
    # The foreign key deletes parts, and MariaDB's log does not say so.
    entries = shop.sync("delete from orders where id in (1, 2)")
    silent = shop.address.dialect.kind == "mariadb"
    assert shop.gaps["orders"] == ""
    assert ("foreign key" in shop.gaps["parts"]) == silent
    found = (entries["parts"].reconciled, entries["parts"].changed, entries["parts"].action)
    assert found == (2 * silent, 2, Action.CHANGES)
    # One statement in another format: only what differs is moved.
    entries = shop.sync(
        "set binlog_format = statement", "update orders set total = 0 where id < 10"
    )
    assert all("as a statement" in gap for gap in shop.gaps.values())
    assert (entries["orders"].reconciled, entries["parts"].action) == (7, Action.UNCHANGED)
    shop.streamed("set binlog_format = row", "update orders set total = 1 where id < 10")
    assert base_files(shop, "orders") == base


def test_of_a_large_batch_some_keys_are_proven_others_each_time(
    family_database: Address, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[int]] = []
    figures = MariadbSnapshot.figures

    def spy(self: MariadbSnapshot, table: Table, selection: Selection, **options: Any) -> Figures:
        if isinstance(selection, Keys):
            asked.append({int(key) for (key,) in selection.keys})
        return figures(self, table, selection, **options)

    def damaged(work: Work, changes: Changes) -> list[Path]:
        told = ", ".join(f"'{part}'" for part in changes.parts)
        target = work.directory / "damaged.parquet"
        work.session.execute(
            f"COPY (SELECT * REPLACE (2 AS n) FROM read_parquet([{told}])) TO '{target}'"
        )
        return [target]

    with following(family_database, bucket, "create table t (id int primary key, n int)") as shop:
        monkeypatch.setattr(MariadbSnapshot, "figures", spy)
        monkeypatch.setattr(sync_log, "PROVEN", 50)
        shop.streamed("insert into t select seq, 1 from seq_1_to_2000")
        shop.streamed("update t set n = 7 where id > 100", "delete from t where id <= 100")
        one, other = asked
        assert all(10 < len(keys) < 200 for keys in asked)
        assert one != other
        shop.streamed("update t set n = 8 where id between 301 and 350")
        assert asked[-1] == set(range(301, 351))
        monkeypatch.setattr(sync_log, "_merged", damaged)
        _, failed = shop.attempt("update t set n = 9")
        assert isinstance(failed["t"], NotProven)


def test_the_history_knows_each_sync_and_each_transaction(shop: Maria) -> None:
    """Whatever is asked for, a transaction right behind it is not in it.

    The log begins anew in its first file, and then in a later one whose positions it had before.
    """
    table = next(t for t in shop.replication.tables() if t.name.name == "orders")
    known: list[list[tuple[Position, list[tuple]]]] = []
    begun: list[Position] = []
    for log, (files, below) in enumerate([(2, 9), (0, 9), (2, 9999)]):
        entries = shop.sync("reset master", *["flush binary logs"] * files)
        begun.append(entries["orders"].position)
        known.append([(begun[-1], _totals(shop)), *_turns(shop, log)])
        shop.streamed(f"update orders set total = 0 where id < {below}")
        shop.streamed()
    history = History.read(shop.lake, table)
    with shop.lake.session() as session:

        def past(moment: int | datetime) -> list[tuple] | None:
            """None where the history refuses."""
            try:
                session.execute(f"create or replace temp view past as {history.as_of(moment)}")
            except HistoryGap:
                return None
            return session.execute("select id, total from past order by 1").fetchall()

        for position, totals in [one for log in known for one in log]:
            assert past(position.at) == totals
        first, second, third = known
        assert [past(position.order) for position, _ in second] == [totals for _, totals in second]
        assert past(second[-1][0].order + 2**30) is None  # before the third log, not in it
        # No row differed then; but what had been changed, and changed back, nobody knows.
        assert [past(p.at - timedelta(microseconds=1)) for p in begun] == [None] * 3
        for position, totals in first + third:
            assert past(position.order) in (None, totals)
        assert None in [past(position.order) for position, _ in first + third]
        versions = session.execute(history.versions({"id": "10"})).fetchall()
    assert len(versions) == 7


def _turns(shop: Maria, log: int) -> Iterator[tuple[Position, list[tuple]]]:
    for turn in range(2):
        entries = shop.streamed(
            f"update orders set total = -{turn} - 1 where id = 10",
            f"set timestamp = {2**31 - 9 if turn else 1}",  # a session may say when it is
            f"update orders set id = -id where id = 350 + {turn} + 2 * {log}",
        )
        yield entries["orders"].position, _totals(shop)


def _totals(shop: Maria) -> list[tuple]:
    return sorted(shop.sql("select id, total from orders"))


def test_tables_change_join_and_fail_without_the_others(shop: Maria) -> None:
    entries, failed = shop.attempt(
        "alter table orders add column more int default 7",
        "update orders set more = 8 where id = 3",
        "create table joined (id int primary key)",
        "insert into joined values (1)",
        "create table free (v int)",
        "update parts set o = 4 where id = 3",
    )
    assert set(failed) == {"free"}
    assert "needs a key" in failed["free"].what
    assert {name: entry.action for name, entry in entries.items()} == {
        "orders": Action.COPY,
        "joined": Action.COPY,
        "parts": Action.CHANGES,
    }
    shop.streamed("drop table free", "insert into joined values (2)", "delete from parts")
    shop.sync("truncate joined", "insert into joined values (3)")


@pytest.mark.parametrize("family_database", ["mariadb", "newer_mariadb", "mysql"], indirect=True)
def test_what_the_server_computes_need_not_be_in_its_log(
    family_database: Address, bucket: Bucket
) -> None:
    """MariaDB of today leaves it out of the rows that it updates and deletes."""
    tables = (
        """create table goods (id int primary key, o int, kept int as (o * 3) stored, note text,
             twice int as (o * 2) virtual, last int default 5)""",
        """create table bits (id int primary key, goods int,
             foreign key (goods) references goods (id) on delete cascade)""",
        "insert into goods (id, o, note) values (1, 1, null), (2, 2, 'two'), (3, 3, 'three')",
        "insert into bits values (1, 1)",
    )
    with following(family_database, bucket, *tables) as shop:
        shop.streamed(
            "insert into goods (id, o, last) values (4, 4, null)",
            "update goods set o = 20, note = 'more' where id = 2",
            "update goods set o = 21 where id = 2",
            "update goods set id = 30 where id = 3",
            "update goods set last = null",
        )
        # A key that is computed is left out, too.
        keyed = Declaration("named", mode=Mode.LOG, key=("id",))
        shop.replication = shop.replicated(LOG, keyed)
        shop.sync("create table named (o int, id int as (o * 2) stored, note text, unique (id))")
        shop.streamed("insert into named (o, note) values (1, 'one'), (2, 'two')")
        shop.sync("update named set note = 'x'", "delete from named where o = 1")
        [(version,)] = shop.sql("select version()")
        assert (shop.gaps["named"] == "") == (not version.startswith("11."))
        shop.streamed("update goods set note = o")
