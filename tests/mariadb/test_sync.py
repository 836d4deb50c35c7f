"""Replications of MariaDB and MySQL: every mode, both replicas, under writers; damage is healed."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from repl_pipelines.errors import GrantMissing, SourceUnavailable, TableChanged
from repl_pipelines.model.diagnosis import Grade
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration, Deletes, Mode, TimePartition
from repl_pipelines.sources.mariadb import own
from repl_pipelines.sources.mariadb.connection import Protection, connect, rows
from repl_pipelines.sources.mariadb.own import MARIADB
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sources.mysql import instant
from tests.mariadb.world import Shop

DECLARATIONS = (
    Declaration("*"),
    Declaration("orders", cursor="changed"),
    Declaration("silent", cursor="changed", deletes=Deletes.IGNORE),
    Declaration("events", partition=TimePartition("at", start="2026-11-01")),
)
MADE = (
    (
        "create table orders (id bigint unsigned primary key auto_increment, note varchar(40),"
        " amount decimal(12,2) not null, changed timestamp(6) default now(6) on update now(6),"
        " index (changed))"
    ),
    (
        "insert into orders (id, note, amount) select seq, concat('note ', seq), seq / 4"
        " from seq_1_to_400"
    ),
    (
        "create table order_lines (order_id bigint unsigned, line int, amount decimal(12,2),"
        " primary key (order_id, line))"
    ),
    "insert into order_lines select id, 1, amount from orders",
    "create table silent (id int primary key, changed datetime(6) default now(6), index (changed))",
    "insert into silent (id) values (1)",
    "create table words (word varchar(20) primary key, meaning text, bits bit(3), span time(3))",
    "insert into words values ('a', 'lower', b'101', '-12:00:00.5'), ('b ', '', b'0', null)",
    "create table notes (a int, b text)",
    "insert into notes select seq % 20, 'same' from seq_1_to_60",
    "create table events (id int, at datetime(3), kind varchar(9))",
    "insert into events select seq, '2026-11-01' + interval seq * 6 hour, 'k' from seq_1_to_40",
)


# For a snapshot, then for mode cursor.
RIGHTS = {
    "mariadb": ("RELOAD", "PROCESS"),
    "mysql": ("REPLICATION CLIENT", "PROCESS", "XA_RECOVER_ADMIN"),
}
STATE = "select sum(n), group_concat(n order by id) from {}"


def test_every_mode_is_exact_and_damage_is_found_and_healed(shop: Shop) -> None:
    shop.sql(*MADE)
    replication = shop.replication(*DECLARATIONS)
    shop.settle(replication)
    shop.sql(
        "update orders set note = 'changed' where id % 50 = 0",
        "update orders set note = 'silently', changed = changed where id = 7",
        "delete from orders where id in (3, 399)",
        "insert into orders (note, amount) values (null, 0), ('', 99.99)",
        "update words set word = 'A' where word = 'a'",
        "insert into words values ('c', 'x', b'111', '838:59:59'), ('', null, null, '00:00:00')",
        "delete from notes where a = 3 limit 1",
        "update events set at = '2026-12-24 12:00:00.125' where id = 5",
        "insert into events values (99, null, 'never')",
        "insert into silent (id) values (2)",
    )
    shop.settle(replication)
    verdict = replication.prove()
    assert verdict.proven, verdict
    assert {(p.copy, p.table.name) for p in verdict.proofs} == {
        (copy, table.name.name)
        for copy in ("lake", "duckdb", "postgres")
        for table in replication.tables()
    }
    schema = shop.address.database
    with psycopg.connect(shop.target, autocommit=True) as copy:
        copy.execute(f'delete from "{schema}".orders where id = 8'.encode())
        copy.execute(f"update \"{schema}\".words set meaning = '' where word = 'A'".encode())
    verdict = replication.prove()
    found = {
        (proof.copy, proof.table.name, d.kind.value, d.key, d.column, d.source, d.copy)
        for proof in verdict.proofs
        if not proof.proven
        for d in proof.found.listed
        if d.column
    }
    assert found == {("postgres", "words", "unequal", "word=A", "meaning", "lower", "")}
    failed = {(proof.copy, proof.table.name) for proof in verdict.proofs if not proof.proven}
    assert failed == {("postgres", "orders"), ("postgres", "words")}
    assert replication.repair(limit=0.5).healed
    shop.settle(replication)


def test_sessions_of_a_snapshot_see_one_state_under_writers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each transfer keeps the sum; without what keeps commits out, the sessions disagree."""
    shop.sql(
        "create table a (id int primary key, n int)",
        "create table b (id int primary key, n int)",
        "insert into a select seq, 100 from seq_1_to_50",
        "insert into b select seq, 100 from seq_1_to_50",
    )
    source = MariadbSource("shop", shop.address, Protection(workers=6))
    tables = source.discover([Declaration("a"), Declaration("b")])
    stop = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with connect(shop.address, Protection(), "writer") as connection:
            while not stop.is_set():
                one = chance.randint(1, 50)
                rows(connection, "begin")
                rows(connection, "update a set n = n - 1 where id = %s", one)
                rows(connection, "update b set n = n + 1 where id = %s", one)
                rows(connection, "rollback" if chance.random() < 0.2 else "commit")

    def agree() -> bool:
        with source.snapshot(tables) as snapshot:
            states: set[str] = set()
            for connection in snapshot._readers._all[:-1]:
                [(left, state)] = rows(connection, STATE.format("a"))
                [(right, _)] = rows(connection, STATE.format("b"))
                assert left + right == 10_000
                states.add(state)
        return len(states) == 1

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert all(agree() for _ in range(20))

        careless(monkeypatch)
        if shop.address.dialect is MARIADB:
            with pytest.raises(SourceUnavailable, match="did not begin at one point"):
                all(agree() for _ in range(500))
        else:
            assert not all(agree() for _ in range(500))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def careless(patch: pytest.MonkeyPatch) -> None:
    """Commits are neither held up nor looked for."""
    patch.setattr(own, "_HOLD", "select 1")
    patch.setattr(instant, "_TAKEN", instant._TAKEN.replace("@@global.gtid_owned", "''"))
    patch.setattr(instant, "log_end", lambda *_: ("binlog.000001", 4))


@pytest.mark.parametrize(
    "change",
    [
        "truncate t",
        "alter table t add more int",
        "alter table t drop n",
        "alter table t engine = InnoDB",
        "alter table t rename column n to m",
        "drop table t",
        "create or replace table t (id int primary key, n int)",
        "rename table t to u, other to t",
    ],
)
def test_ddl_while_a_snapshot_is_open_is_told(shop: Shop, tmp_path: Path, change: str) -> None:
    shop.sql(
        "create table t (id int primary key, n int)",
        "insert into t values (1, 1)",
    )
    [table] = shop.source.discover([Declaration("t")])
    shop.sql("create table other (id int primary key, n int)")  # in another second
    with shop.source.snapshot([table]) as snapshot:
        assert snapshot.figures(table, Everything()).total.rows == 1
        if shop.address.dialect is not MARIADB and change.startswith("create or replace"):
            shop.sql("drop table t")
            change = change.replace("or replace ", "")
        shop.sql("set lock_wait_timeout = 5", change)  # nobody holds the table up
        with pytest.raises(TableChanged, match=r"\.t"):
            snapshot.figures(table, Everything())
        with pytest.raises(TableChanged, match=r"\.t"):
            list(snapshot.extract(table, Everything(), tmp_path, {}))


def test_a_right_that_is_missing_is_named(shop: Shop) -> None:
    database = shop.address.database
    snapshot_right, *cursor_rights = RIGHTS[shop.address.dialect.kind]
    shop.sql(
        "create table t (id int primary key, at timestamp)",
        "drop user if exists 'copier'@'127.0.0.1'",
        "create user 'copier'@'127.0.0.1' identified by 'x'",
        f"grant select on \"{database}\".* to 'copier'@'127.0.0.1'",
    )
    source = MariadbSource("shop", replace(shop.address, user="copier", password="x"))
    [table] = source.discover([Declaration("t")])
    with pytest.raises(GrantMissing, match=snapshot_right), source.snapshot([table]):
        pass
    assert fixes(source, Declaration("t")) == [
        f"GRANT {snapshot_right} ON *.* TO 'copier'@'127.0.0.1';"
    ]
    shop.sql(*fixes(source, Declaration("t")))
    with source.snapshot([table]) as snapshot:
        assert snapshot.figures(table, Everything()).total.rows == 0
    [table] = source.discover([Declaration("t", cursor="at")])
    for right in cursor_rights:
        with pytest.raises(GrantMissing, match=right), source.snapshot([table]):
            pass
        shop.sql(fixes(source, Declaration("t", cursor="at"))[0])
    with source.snapshot([table]) as snapshot:
        horizon = snapshot.horizon(table, None)
    assert horizon is not None
    outlook = source.look_out([table], {table.name: horizon})
    assert set(outlook.rows) == {table.name}
    lacking = fixes(source, Declaration("t", mode=Mode.LOG))
    assert len(lacking) == (2 if shop.address.dialect is MARIADB else 1)
    shop.sql(*lacking)
    assert not fixes(source, Declaration("t", mode=Mode.LOG))


def fixes(source: MariadbSource, declaration: Declaration) -> list[str]:
    """What `doctor` would have somebody run."""
    return [one.fix for one in source.diagnose([declaration]) if one.grade is Grade.FAULT]


def test_a_session_that_is_lost_ends_the_snapshot_and_not_the_process(shop: Shop) -> None:
    shop.sql("create table t (id int primary key)")
    [table] = shop.source.discover([Declaration("t")])
    with shop.source.snapshot([table]) as snapshot:
        for connection in snapshot._readers._all:
            shop.sql(f"kill {connection.thread_id()}")
        for _ in range(4):
            with pytest.raises(SourceUnavailable):
                snapshot.figures(table, Everything())
    with shop.source.snapshot([table]) as snapshot:
        assert snapshot.figures(table, Everything()).total.rows == 0
