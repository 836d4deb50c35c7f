"""Faults of the store, the source and the replicas: survived, or named; nothing is lost by them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.errors import (
    LakeDamaged,
    ReplicationError,
    ReplicaUnavailable,
    SourceUnavailable,
    StatementTimeout,
    StoreRefused,
    StoreUnavailable,
    SyncInProgress,
    TerminalError,
)
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.model.entry import Action
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration, TableName, TimePartition
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.scratch import scratch_folder
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.faults import Fault, FaultProxy, answer_lost, dropped, error, expired, slow
from tests.sync.conftest import Bench, Meet

ORDERS = TableName("public", "orders")
EVENTS = TableName("public", "events")
SMALL = TableName("public", "small")
CURSOR = Declaration("orders", cursor="updated_at")
DAILY = Declaration("events", partition=TimePartition("at", start="2026-11-01"))
CHUNKS = Protection(workers=1, chunk=32 * 8192, lock_timeout=1)
FOREVER = 10**6
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload([__name__])


@pytest.fixture
def orders(bench: Bench) -> Bench:
    """About ten chunks of orders, and a small table beside them."""
    bench.protection = CHUNKS
    bench.sql(
        "create table orders (id bigint primary key, note text,"
        " updated_at timestamptz not null default now())",
        "create index on orders (updated_at)",
        "insert into orders select g, repeat('n', 1000) from generate_series(1, 2000) g",
        "create table small (id int primary key)",
        "insert into small select generate_series(1, 10)",
        "analyze",
    )
    return bench


@pytest.fixture
def events(bench: Bench) -> Bench:
    bench.sql(
        "create table events (id bigint, at timestamptz)",
        "insert into events select g, '2026-11-01'::timestamptz + g * interval '1 hour'"
        " from generate_series(0, 95) g",
    )
    return bench


@pytest.fixture
def proxy(orders: Bench) -> Iterator[FaultProxy]:
    with FaultProxy(orders.bucket.endpoint_url) as between:
        orders.store = replace(orders.store, endpoint_url=between.endpoint_url)
        orders.lake = Lake(orders.store, "shop")
        yield between


def change(bench: Bench, number: int) -> None:
    bench.sql(
        f"insert into orders values ({10_000 + number}, 'new')",
        f"update orders set note = 'u{number}', updated_at = now() where id = {number}",
        f"delete from orders where id = {1000 + number}",
        f"insert into small values ({100 + number})",
    )


def errors(replication: Replication, **request: Any) -> dict[TableName | None, ReplicationError]:
    """What a sync says went wrong: by table, or of all (None)."""
    try:
        return {**replication.sync(**request).failed}
    except ReplicationError as error:
        return {None: error}


def assert_right(bench: Bench, replication: Replication) -> None:
    """The next sync brings everything, and what was published since is there once."""
    assert replication.sync().failed == {}
    bench.assert_equal(replication)
    seen = [
        (entry.table, entry.partition, entry.batch)
        for sync in bench.lake.journal.since(0)
        for entry in sync.entries
        if entry.action is not Action.UNCHANGED
    ]
    assert len(seen) == len(set(seen))


# The store


@pytest.mark.parametrize(
    "fault",
    [error(500), error(503, "SlowDown"), dropped(), answer_lost(), slow(0.5)],
    ids=["500", "slow down", "dropped", "answer lost", "slow"],
)
def test_passing_faults_of_the_store_are_survived(
    orders: Bench, proxy: FaultProxy, fault: Fault
) -> None:
    replication = orders.replication(CURSOR, Declaration("small"))
    for number, pattern in enumerate([r"\.parquet", "_delta_log", "_syncs"]):
        for method in ("GET", "PUT"):
            proxy.fail(fault, f"{method} .*{pattern}", times=1)
        change(orders, number)
        assert errors(replication) == {}
    proxy.heal()
    assert_right(orders, replication)


WHERE = [
    "max-keys=1|_probe",
    r"PUT .*/public/orders/.*\.parquet",
    "PUT .*/public/orders/_delta_log",
    "PUT .*_syncs/",
]


@pytest.mark.parametrize("first", [True, False], ids=["first sync", "later sync"])
def test_expired_credentials_publish_nothing(orders: Bench, proxy: FaultProxy, first: bool) -> None:
    replication = orders.replication(CURSOR)
    if not first:
        replication.sync()
    published = orders.lake.journal.last()
    for number, pattern in enumerate(WHERE):
        change(orders, number)
        proxy.fail(expired(), pattern, times=FOREVER)
        [refused] = errors(replication).values()
        assert isinstance(refused, StoreRefused), (pattern, refused)
        assert "credentials have expired" in refused.what
        proxy.heal()
        assert orders.lake.journal.last() == published
    assert_right(orders, replication)
    assert orders.lake.journal.last() == published + 1


def test_a_store_that_goes_away_before_the_journal(orders: Bench, proxy: FaultProxy) -> None:
    replication = orders.replication(CURSOR, Declaration("small"))
    replication.sync()
    change(orders, 1)
    proxy.fail(error(500), "PUT .*_syncs/", times=FOREVER)
    with pytest.raises(StoreUnavailable, match="sync can be repeated safely"):
        replication.sync()
    proxy.heal()
    assert orders.lake.journal.last() == 1
    assert_right(orders, replication)


def test_a_sync_that_does_not_know_that_it_is_published_is_published_once(
    orders: Bench, proxy: FaultProxy
) -> None:
    """The answer to the journal's commit is lost, and the store cannot be asked any more."""
    replication = orders.replication(CURSOR, Declaration("small"))
    for number in (1, 2):
        change(orders, number)

        def down() -> None:
            proxy.fail(error(500), "_syncs/", times=FOREVER)

        proxy.fail(answer_lost(down), r"PUT .*_syncs/_delta_log/\d+\.json")
        assert isinstance(errors(replication)[None], StoreUnavailable)
        proxy.heal()
        assert orders.lake.journal.last() == number
    assert_right(orders, replication)


def stored(bench: Bench, prefix: str) -> list[str]:
    pages = bench.store.client().get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=bench.store.bucket, Prefix=f"lake/shop/{prefix}")
    return [item["Key"] for page in found for item in page.get("Contents", [])]


def lose(bench: Bench, *keys: str) -> None:
    for key in keys:
        bench.store.client().delete_object(Bucket=bench.store.bucket, Key=key)


def test_a_lost_file_is_named_and_copied_again(orders: Bench) -> None:
    replication = orders.replication(CURSOR, Declaration("small"))
    replication.sync()
    [lost, *_] = [key for key in stored(orders, "public/orders/") if key.endswith(".parquet")]
    lose(orders, lost)
    change(orders, 1)
    report = replication.sync()
    assert list(report.failed) == [ORDERS]
    assert isinstance(report.failed[ORDERS], LakeDamaged)
    assert f"public.orders: the file {lost} is missing" in report.failed[ORDERS].what
    assert {entry.table for entry in report.entries} == {SMALL}
    assert replication.sync(recopy={ORDERS: Everything()}).failed == {}
    assert_right(orders, replication)


def test_lost_partitions_are_healed_one_by_one(events: Bench) -> None:
    replication = events.replication(DAILY)
    replication.sync()
    files = [key for key in stored(events, "public/events/") if key.endswith(".parquet")]
    days = ["2026-11-01", "2026-11-03"]
    lose(events, *[key for key in files if any(day in key for day in days)])
    error = replication.prove(fresh=False).failed[EVENTS]
    assert isinstance(error, LakeDamaged)
    assert days[0] in str(error)
    for day in days:
        assert replication.sync(partitions={EVENTS: [day]}).failed == {}
    assert replication.prove(fresh=False).proven
    assert_right(events, replication)


def test_a_lost_table_is_copied_again(orders: Bench) -> None:
    replication = orders.replication(CURSOR, Declaration("small"))
    replication.sync()
    change(orders, 1)
    replication.sync()
    lose(orders, *stored(orders, "public/orders/"), *stored(orders, "public/small/"))
    assert replication.sync(recopy={ORDERS: Everything(), SMALL: Everything()}).failed == {}
    assert_right(orders, replication)


# The source


def terminate(bench: Bench, purpose: str) -> None:
    ended = bench.sql(
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where"
        f" datname = current_database() and application_name like 'repl_pipelines % {purpose}%'"
    )
    assert ended != [(0,)]


def assert_nothing_left(bench: Bench, threads: int, folder: Path) -> None:
    """No connection, thread or file stays behind an error."""
    while bench.sql(
        "select 1 from pg_stat_activity where application_name like 'repl_pipelines%'"
        " and datname = current_database()"
    ):
        time.sleep(0.05)  # a backend notices its client's end a little later
    assert threading.active_count() <= threads
    assert list(folder.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("purpose", ["read", "snapshot"])
def test_a_source_that_disconnects_in_mid_read(
    orders: Bench, meet: Meet, folder: Path, purpose: str
) -> None:
    """Whether it is the reader or the session that holds the snapshot for it."""
    replication = orders.replication(CURSOR)
    threads = threading.active_count()
    # The reader's next chunk finds it gone; without the holder, no reader can be opened.
    point = "sync.part_uploaded" if purpose == "read" else "sync.snapshot"
    meet(point, lambda: terminate(orders, purpose))
    [gone] = errors(replication).values()
    assert isinstance(gone, SourceUnavailable)
    assert "Source 'shop'" in gone.what
    assert orders.lake.journal.last() == 0
    del gone
    assert_nothing_left(orders, threads, folder)
    assert_right(orders, replication)


def test_a_store_that_fails_in_mid_read_stops_the_reading(
    orders: Bench, proxy: FaultProxy, folder: Path
) -> None:
    replication = orders.replication(CURSOR)
    threads = threading.active_count() + 1  # the proxy may keep one for the store's client
    proxy.fail(error(403, "AccessDenied"), r"PUT .*\.parquet", times=FOREVER)
    failed = errors(replication)
    assert isinstance(failed[ORDERS], StoreRefused)
    # The error is still held, and its traceback with it: that must not keep the readers alive.
    assert_nothing_left(orders, threads, folder)
    proxy.heal()
    assert_right(orders, replication)


def test_a_source_that_crashes(
    orders: Bench, postgres: PostgresServer, meet: Meet, folder: Path
) -> None:
    replication = orders.replication(CURSOR, Declaration("small"))
    meet("sync.part_uploaded", postgres.kill9)
    failed = errors(replication)
    assert all(isinstance(each, SourceUnavailable) for each in failed.values()), failed
    assert [isinstance(each, SourceUnavailable) for each in errors(replication).values()] == [True]
    assert list(folder.iterdir()) == []
    postgres.start()
    orders.reconnect()
    assert_right(orders, replication)


def test_ddl_that_holds_a_lock_stops_its_own_table_only(orders: Bench) -> None:
    replication = orders.replication(CURSOR, Declaration("small"))
    replication.sync()
    with psycopg.connect(orders.dsn) as ddl:
        ddl.execute("lock table orders in access exclusive mode")
        change_small = "insert into small values (50)"
        orders.sql(change_small)
        report = replication.sync()
        assert list(report.failed) == [ORDERS]
        assert isinstance(report.failed[ORDERS], SourceUnavailable)
        assert "lock timeout" in report.failed[ORDERS].what
        assert [(e.table, e.action) for e in report.entries] == [(SMALL, Action.COPY)]
    assert_right(orders, replication)


def test_a_statement_that_takes_too_long(orders: Bench) -> None:
    orders.sql("create view sleepy as select id, pg_sleep(60) is null as slept from small")
    orders.protection = replace(CHUNKS, statement_timeout=1)
    replication = orders.replication(Declaration("small"), Declaration("sleepy"))
    report = replication.sync()
    [(name, late)] = report.failed.items()
    assert (name.name, type(late)) == ("sleepy", StatementTimeout)
    assert "statement timeout" in late.what
    assert "public.sleepy" in late.what
    assert {entry.table for entry in report.entries} == {SMALL}


def test_a_sync_that_lost_its_claim_gives_way(orders: Bench, meet: Meet) -> None:
    """Its connection broke, another sync took over and has finished: ours is of the past now."""
    replication = orders.replication(CURSOR)
    replication.sync()

    def take_over() -> None:
        terminate(orders, "claim")
        change(orders, 2)
        assert orders.replication(CURSOR).sync().failed == {}

    for point in ("sync.snapshot", "sync.before_commit"):
        change(orders, 1)
        meet(point, take_over)
        report = replication.sync()
        assert [type(each) for each in report.failed.values()] == [SyncInProgress], report.failed
        assert report.entries == ()
        orders.assert_equal(replication)
        orders.sql("delete from orders where id > 10000", "delete from small where id > 100")
    assert_right(orders, replication)


# Local disk and replicas


ABANDON = """
import os, signal
from repl_pipelines.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "rows.parquet").write_bytes(b"rows")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_swept(orders: Bench, folder: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(folder)}
    subprocess.run([sys.executable, "-c", ABANDON], env=environment, check=False)
    assert len(list(folder.iterdir())) == 1
    with scratch_folder() as used:
        assert errors(orders.replication(Declaration("small"))) == {}
        assert [used] == list(folder.iterdir())
    assert list(folder.iterdir()) == []


def sync_on_a_small_disk(dsn: str, store: Store, answer: Any) -> None:
    """Files end at 100 KB, as they do on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    source = PostgresSource("shop", dsn, CHUNKS)
    replication = Replication(
        "shop", source, Lake(store, "shop"), [], [CURSOR, Declaration("small")]
    )
    report = replication.sync()
    answer.send([(type(e), e.what, e.remedy) for e in report.failed.values()])


def test_a_full_local_disk_is_named(orders: Bench) -> None:
    orders.sql(
        "update orders set note = (select string_agg(md5(id::text || g), '')"
        " from generate_series(1, 30) g)"
    )
    ours, theirs = CHILDREN.Pipe()
    arguments = (orders.dsn, replace(orders.store), theirs)
    child = CHILDREN.Process(target=sync_on_a_small_disk, args=arguments)
    child.start()
    assert ours.poll(60)
    [(kind, what, remedy)] = ours.recv()
    child.join()
    assert kind is TerminalError
    assert what.startswith("public.orders could not be read to local disk")
    assert "TMPDIR" in remedy
    assert_right(orders, orders.replication(CURSOR, Declaration("small")))


def test_a_replica_that_crashes_in_the_middle_of_an_apply(
    orders: Bench, replica_postgres: PostgresServer, replica_database: str, meet: Meet
) -> None:
    replica = PostgresReplica("warehouse", replica_database, "shop")
    orders.replicas.append(replica)
    replication = orders.replication(CURSOR, Declaration("small"))
    replication.sync()
    replication.apply("warehouse")
    change(orders, 1)
    replication.sync()
    for point in ("replica.staged", "replica.merged"):
        meet(point, replica_postgres.kill9)
        with pytest.raises(ReplicaUnavailable):
            replication.apply("warehouse")
        with pytest.raises(ReplicaUnavailable):
            replication.apply("warehouse")
        replica_postgres.start()
        assert replica.sync_number() == 1
    replication.apply("warehouse")
    assert replication.prove(fresh=False).proven
    assert replica.sync_number() == 2
