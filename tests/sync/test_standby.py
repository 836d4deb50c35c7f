"""A source with a streaming standby: proofs that wait for it."""

from __future__ import annotations

import time

import psycopg

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.source import PostgresSource
from tests.servers import postgres_server, standby_server

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
            with standby.connect() as replaying:
                replaying.execute("select pg_wal_replay_pause()")
                writer.execute(MUCH)
                assert "walreceiver is " in snapshot.strain()
                replaying.execute("select pg_wal_replay_resume()")
            caught_up(primary)
            assert snapshot.strain() == ""
        with source.snapshot(()) as snapshot:
            assert snapshot.strain() == "", "nobody is waited for who is gone"


def caught_up(primary: PostgresServer) -> None:
    """Until the primary knows that the standby has replayed all of its log."""
    with primary.connect() as connection:
        query = "select bool_and(replay_lsn >= pg_current_wal_lsn()) from pg_stat_replication"
        while connection.execute(query).fetchone() != (True,):
            time.sleep(0.05)
