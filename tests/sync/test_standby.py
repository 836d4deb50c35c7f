"""A source with a streaming standby: proofs wait for it, or read there instead."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.errors import DeclarationError, SourceUnavailable
from repl_pipelines.model.column import Policies, Policy
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration, Deletes, Mode
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres import standby as place
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.snapshot import PostgresSnapshot
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.servers import Bucket, postgres_server, standby_server
from tests.sync.conftest import Bench
from tests.sync.test_repair import damage_lake, renamed
from tests.sync.writers import SCHEMA, writing

MUCH = "create table if not exists much as select repeat('x', 100) from generate_series(1, 40000)"


def test_proofs_wait_for_a_standby_that_lags() -> None:
    with postgres_server("17") as primary:
        dsn = primary.create_database("shop")
        source = PostgresSource("shop", dsn, Protection(max_lag=2**20))
        with (
            standby_server(primary) as standby,
            source.snapshot(()) as snapshot,
            psycopg.connect(dsn, autocommit=True) as writer,
        ):
            caught_up(primary)
            assert snapshot.strain() == ""
            overtaken(primary, standby, writer)
            with standby.connect() as replaying:
                replaying.execute("select pg_wal_replay_pause()")
                writer.execute(MUCH)
                assert "walreceiver is " in snapshot.strain()
                replaying.execute("select pg_wal_replay_resume()")
            caught_up(primary)
            assert snapshot.strain() == ""
        with source.snapshot(()) as snapshot:
            assert snapshot.strain() == "", "nobody is waited for who is gone"


def overtaken(primary: PostgresServer, standby: PostgresServer, writer: psycopg.Connection) -> None:
    """A commit is replayed after the position was read, and before the snapshot is taken."""
    written: list[int] = []
    writer.execute("set synchronous_commit = on")  # the test's servers keep commits back a moment
    with psycopg.connect(standby.dsn("shop"), autocommit=True) as reader:

        class Late:
            def execute(self, query: Any) -> Any:
                found = reader.execute(query)
                if "replay_lsn" in str(query) and not written:
                    writer.execute("create table late ()")
                    caught_up(primary)
                    row = writer.execute("select (pg_current_wal_lsn() - '0/0')::bigint").fetchone()
                    written.append(row[0] if row else 0)
                return found

        late: Any = Late()
        position = place._positioned(late, "shop", 0)
        shown = reader.execute("select count(*) from pg_class where relname = 'late'").fetchone()
    assert shown == (1,)
    assert position.order >= written[0], "what the snapshot shows is before its position"


def caught_up(primary: PostgresServer) -> None:
    """Until the primary knows that the standby has replayed all of its log."""
    with primary.connect() as connection:
        query = "select bool_and(replay_lsn >= pg_current_wal_lsn()) from pg_stat_replication"
        until(connection, query)


def reading_from(bench: Bench, standby: str, *declarations: Declaration) -> Replication:
    key = "what the standby hashes with, too"
    source = PostgresSource("shop", bench.dsn, Protection(), standby=standby, hash_key=key)
    return Replication("shop", source, bench.lake, bench.replicas, declarations)


def test_proofs_read_a_standby_at_a_position_of_its_own(
    bucket: Bucket, replica_database: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact under writers, though no snapshot of the primary shows what the standby does."""
    hashed = Policies({"note": Policy.HASH})
    log = Declaration("*", mode=Mode.LOG, general=hashed)
    with postgres_server("17") as primary:
        bench = Bench(primary.create_database("shop"), bucket)
        bench.replicas.append(PostgresReplica("pg", replica_database, "shop"))
        bench.sql(*SCHEMA, "create table t (id int primary key, note text)")
        bench.sql("insert into t select g, 'n' from generate_series(1, 2000) g", "analyze")
        with standby_server(primary) as standby:
            replication = reading_from(bench, standby.dsn("shop"), log)
            for _ in range(2):  # copied, then continued from the log
                assert not replication.sync().failed
            with writing(bench.dsn, 4), monkeypatch.context() as patch:
                patch.setattr(PostgresSnapshot, "bound", refused)
                for _ in range(2):
                    verdict = replication.prove()
                    assert verdict.proven, (verdict.failed, verdict.proofs)
                    assert len(verdict.proofs) == 6
                    for proof in verdict.proofs:
                        assert proof.position.token["on"] == "standby"
                        assert proof.reference == ("source" if proof.copy == "lake" else "lake")
            damage_lake(bench, lambda _, content: renamed(content), ["t"])
            wrong = [proof for proof in replication.prove().proofs if not proof.proven]
            assert [(proof.table.name, proof.copy) for proof in wrong] == [
                ("t", "lake"),
                ("t", "pg"),
            ]
            refusals(bench, standby, postgres, monkeypatch)
        bench.connection.close()


def refused(*_: object) -> Any:
    raise AssertionError("the primary was to be left alone")


def refusals(
    bench: Bench, standby: PostgresServer, other: PostgresServer, patch: pytest.MonkeyPatch
) -> None:
    """Never a position that is not known, never another server."""
    ignoring = Declaration("orders", cursor="id", deletes=Deletes.IGNORE)
    log = Declaration("t", mode=Mode.LOG)
    replication = reading_from(bench, standby.dsn("shop"), log, ignoring)
    assert not replication.sync().failed
    with patch.context() as waiting:
        waiting.setattr(PostgresSource, "settled", lambda *_: False)
        failed = {name.name: error for name, error in replication.prove().failed.items()}
    assert "waits for a synchronous standby" in str(failed["t"])
    error = failed["orders"]
    assert isinstance(error, DeclarationError)
    assert "cannot be proven on a standby" in error.what
    for address, what in (
        (bench.dsn, "is not in recovery"),
        (other.dsn(), "no copy of its server"),
    ):
        with pytest.raises(DeclarationError, match=what):
            opened(bench, address)
    patch.setattr(place, "PATIENCE", 0.3)
    with standby.connect() as connection:
        connection.execute("select pg_wal_replay_pause()")
        bench.sql("insert into t values (-1, 'x')")
        with pytest.raises(SourceUnavailable, match="has not replayed all"):
            opened(bench, standby.dsn("shop"))
        connection.execute("select pg_wal_replay_resume()")
        ended_by_replay(bench, standby)
        connection.execute("select pg_promote()")
    with pytest.raises(DeclarationError, match="is not in recovery"):
        opened(bench, standby.dsn("shop"))
    with standby_server(standby) as follower:
        with follower.connect() as connection:
            until(connection, "select exists (select from pg_stat_wal_receiver)")
        with pytest.raises(SourceUnavailable, match="follows timeline 2, the source is on 1"):
            opened(bench, follower.dsn("shop"))


def ended_by_replay(bench: Bench, standby: PostgresServer) -> None:
    """A statement, and a snapshot between two, that stand in the way of what was done since."""
    source = PostgresSource("shop", bench.dsn, Protection(), standby=standby.dsn("shop"))
    [table] = source.discover([Declaration("t", mode=Mode.LOG)])
    sleeping = "select count(*) = 1 from pg_stat_activity where wait_event = 'PgSleep'"
    with standby.connect() as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("alter system set max_standby_streaming_delay = 0")
        connection.execute("select pg_reload_conf()")
        for asleep in (True, False):
            view = source.standby(0)
            assert view
            with view as snapshot:
                assert isinstance(snapshot, place.StandbySnapshot)
                assert snapshot.figures(table, Everything()).total.rows
                running = pool.submit(snapshot._query, table, f"select pg_sleep({600 * asleep})")
                if asleep:
                    until(connection, sleeping)
                else:
                    running.result()
                bench.sql("begin; lock table t in access exclusive mode; commit")
                [(now,)] = bench.sql("select pg_current_wal_insert_lsn()::text")
                until(connection, f"select pg_last_wal_replay_lsn() >= '{now}'")
                if not asleep:
                    running = pool.submit(snapshot._query, table, "select")
                with pytest.raises(SourceUnavailable, match="to go on with its replay") as told:
                    running.result()
            assert "hot_standby_feedback" in told.value.remedy


def until(connection: psycopg.Connection, query: str) -> None:
    """Until the query's answer is true."""
    while connection.execute(query.encode()).fetchone() != (True,):
        time.sleep(0.05)


def opened(bench: Bench, standby: str) -> None:
    """At or after where the primary is now."""
    [(now,)] = bench.sql("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
    view = PostgresSource("shop", bench.dsn, Protection(), standby=standby).standby(int(now))
    assert view
    with view:
        pass
