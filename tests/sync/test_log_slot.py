"""Mode log, its slot and its server: what is lost is noticed before anything wrong is written."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.errors import SourceUnavailable
from repl_pipelines.model.entry import Action, Entry
from repl_pipelines.sources.postgres.connection import Connection
from repl_pipelines.sources.postgres.log import slot
from repl_pipelines.sources.postgres.log.anchor import Anchor
from repl_pipelines.sync import run
from tests.servers import Bucket, postgres_server, standby_server
from tests.sync.conftest import Bench, Meet
from tests.sync.logs import LOG, SLOT, Log, following

DROP = f"select pg_drop_replication_slot('{SLOT}')"
MAKE = f"select pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"
ADVANCE = f"select pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())"
CHANGES = (
    "insert into t values ({0} + 1000, {0}, 'new')",
    "update t set a = -{0} where id = {0}",
    "delete from t where id = {0} + 100",
)


def make(bench: Bench) -> None:
    bench.sql(
        "create table t (id int primary key, a int, b text)",
        "insert into t select i, i, repeat('x', 100) from generate_series(1, 400) i",
        "create table still (id int primary key, a int)",
        "insert into still select i, i from generate_series(1, 50) i",
    )


def changes(turn: int) -> list[str]:
    return [statement.format(turn) for statement in CHANGES]


def base_files(log: Log, name: str) -> set[str]:
    return {f.path for f in log.bench.lake.table(log.table(name).name).files() if f.layer == "base"}


def healed(log: Log, entries: dict[str, Entry]) -> None:
    """By difference: the rows that were missed, and nothing but them."""
    assert {name for name, gap in log.gaps.items() if gap} == {"t", "still"}
    assert entries["t"].action is Action.CHANGES
    assert entries["t"].reconciled == entries["t"].changed == len(CHANGES)
    assert entries["still"].action is Action.UNCHANGED


@pytest.fixture
def log(bench: Bench) -> Iterator[Log]:
    make(bench)
    with following(bench) as log:
        yield log


def test_lost_moved_or_made_anew(log: Log) -> None:
    """Whatever somebody does to the slot, the copy heals by difference and streams again."""
    base = base_files(log, "t")
    for turn, meddling in enumerate(([DROP], [ADVANCE], [DROP, MAKE], [DROP, MAKE, ADVANCE]), 1):
        healed(log, log.sync(*changes(turn), *meddling))
        log.sync()
        log.streamed(*changes(10 + turn))
    assert base_files(log, "t") == base
    # One in another database is not ours to use, or to drop.
    with psycopg.connect(make_conninfo(log.bench.dsn, dbname="postgres"), autocommit=True) as other:
        log.bench.sql(DROP)
        other.execute(MAKE.encode())
        _, failed = log.attempt()
        assert "in database postgres, not of pgoutput in" in str(failed["t"])
        other.execute(DROP.encode())


def test_an_idle_source_does_not_pin_the_log(log: Log) -> None:
    before = log.confirmed()
    for _ in range(2):
        log.streamed()
        assert log.confirmed() > before
        before = log.confirmed()


def test_a_commit_between_snapshot_and_marker(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is held back, arrives with the next sync, once, and is not confirmed before."""
    plain = slot.emit_marker
    committed: list[int] = []

    def late(connection: Connection, content: str) -> int:
        if not committed:
            [(lsn,)] = log.bench.sql(*changes(3), "select pg_current_wal_insert_lsn() - '0/0'")
            committed.append(int(lsn))
        return plain(connection, content)

    monkeypatch.setattr(slot, "emit_marker", late)
    entries, failed = log.attempt("update t set a = 5 where id = 5")
    assert not failed
    assert log.history(entries["t"], "id") == [("u", 5)]
    assert log.confirmed() < committed[0]
    entries = log.streamed("update t set a = 6 where id = 6")
    assert log.history(entries["t"], "id") == [("u", 1003), ("u", 3), ("d", 103), ("u", 6)]
    assert log.confirmed() > committed[0]
    assert log.streamed()["t"].changed == 0


def test_a_replay_counts_once(log: Log, meet: Meet) -> None:
    """Nothing is acknowledged before it is published; what is sent again is not taken again."""
    standing = log.confirmed()
    seen: list[int] = []
    for point in ("log.drained", "sync.before_journal", "sync.published"):
        meet(point, lambda: seen.append(log.confirmed()))
        log.bench.sql("update t set a = a + 1 where id = 1")
        log.sync()
        assert seen.pop() == standing
        standing = log.confirmed()
    # A sync of one table leaves the slot to the other: the stream then repeats what the one has.
    log.bench.sql("update t set a = -8 where id = 8")
    assert log.replication.sync([log.table("t").name]).entries[0].changed == 1
    assert log.confirmed() == standing
    entries = log.streamed(
        "update t set a = -9 where id = 9", "update still set a = 0 where id = 1"
    )
    assert log.history(entries["t"], "id, a") == [("u", 9, -9)]


def test_a_table_joins_while_another_run_acknowledges(log: Log, meet: Meet) -> None:
    """Its copy lacks what the stream has lost meanwhile: it is not anchored there."""
    log.bench.sql("create table young (id int primary key)", "insert into young values (1)")
    meet("sync.snapshot", lambda: log.bench.sql("insert into young values (2)", ADVANCE))
    _, failed = log.attempt()
    assert not failed
    log.sync()
    assert log.gaps["young"]
    log.settled("insert into young values (3)")


def test_servers(bucket: Bucket, database: str) -> None:
    """A slot invalidated; a server killed, restored from a backup, replaced."""
    sizes = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with postgres_server("17", sizes) as server:
        bench = Bench(server.create_database("shop"), bucket)
        make(bench)
        with following(bench) as log:
            for incident in (invalidated, killed, restored):
                incident(log, server)
                log.sync()
                log.streamed("update t set a = a + 1 where id = 300")
            bench.connection.close()
            log.bench = Bench(database, bucket)  # another server answers at the same address
            make(log.bench)
            log.replication = log.bench.replication(LOG)
            log.sync(*changes(50))
            log.settled(*changes(51))
            log.bench.connection.close()


def invalidated(log: Log, server: PostgresServer) -> None:
    """The source's disk comes first: the server gives up a slot that nobody reads."""
    much = ["select pg_switch_wal()", "create table much ()", "drop table much"] * 4
    log.bench.sql(*changes(1), *much, "checkpoint")
    assert log.bench.sql("select wal_status from pg_replication_slots") == [("lost",)]
    healed(log, log.sync())


def killed(log: Log, server: PostgresServer) -> None:
    """The server dies when the stream has been read; each change comes once all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "reach", lambda point: point == "log.drained" and server.kill9())
        with suppress(SourceUnavailable):
            assert set(log.attempt(*changes(4))[1]) == {"t", "still"}
    server.start()
    log.bench.reconnect()
    assert log.streamed()["t"].changed == len(CHANGES)


def restored(log: Log, server: PostgresServer) -> None:
    """From a copy of its files, and busy since: positions are there that mean other changes."""
    older = server.data.with_name("older")
    server.stop()
    subprocess.run(["cp", "-a", server.data, older], check=True)
    server.start()
    log.bench.reconnect()
    log.streamed(*changes(5))
    server.stop()
    shutil.rmtree(server.data)
    older.rename(server.data)
    server.start()
    log.bench.reconnect()
    busy = "update t set b = repeat('{}', 100) where b <> 'new'"
    log.bench.sql(*(busy.format(letter) for letter in "abcdefghijklmnopqrstuvwx"))
    standing = Anchor.parse(
        log.bench.lake.journal.newest()[log.table("t").name, None].entry.horizon
    )
    [(end,)] = log.bench.sql("select pg_current_wal_lsn() - '0/0'")
    assert standing
    assert standing.safe < end
    healed(log, log.sync())


def test_a_failover_with_a_synchronised_slot(bucket: Bucket) -> None:
    """The standby has the slot (PostgreSQL 17), and not the last commits, which the copy has."""
    with postgres_server() as primary:
        bench = Bench(primary.create_database("shop"), bucket)
        make(bench)
        bench.sql(MAKE.replace(")", ", failover => true)"))
        with (
            standby_server(primary, "shop", slot="standby") as standby,
            standby.connect("shop") as connection,
        ):
            synchronise(bench, connection)
            with following(bench) as log:
                log.settled(*changes(1))
                synchronise(bench, connection)
                connection.execute("alter system set primary_conninfo = ''")
                connection.execute("select pg_reload_conf()")
                while connection.execute("select 1 from pg_stat_wal_receiver").fetchone():
                    time.sleep(0.05)
                log.streamed(*changes(2))
                bench.connection.close()
                primary.kill9()
                connection.execute("select pg_promote()")
                log.bench = Bench(standby.dsn("shop"), bucket)
                log.replication = log.bench.replication(LOG)
                healed(log, log.sync())
                log.settled(*changes(3))
                slots = log.bench.sql("select slot_name, failover from pg_replication_slots")
                assert (SLOT, True) in slots
                log.bench.connection.close()


def synchronise(primary: Bench, standby: psycopg.Connection) -> None:
    """The standby has replayed all, and has the slot as it is on the primary."""
    usable = "select 1 from pg_replication_slots where synced and not temporary"
    for turn in range(100):
        if turn:  # the slot must not ask for log from before the standby
            primary.sql(ADVANCE)
        [(end,)] = primary.sql("select pg_log_standby_snapshot()::text")
        while not standby.execute(
            "select 1 from pg_last_wal_replay_lsn() r where r >= %s::pg_lsn", [end]
        ).fetchone():
            time.sleep(0.05)
        standby.execute("select pg_sync_replication_slots()")
        if standby.execute(usable).fetchone():
            return
    raise AssertionError("the slot was not synchronised")
