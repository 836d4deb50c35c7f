"""Erasure: nothing that we keep tells of a subject any more, and all copies stay proven."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.errors import (
    DeclarationError,
    ErasureRefused,
    HistoryGap,
    LakeDamaged,
    ReplicaUnavailable,
)
from repl_pipelines.failpoints import ERASING, Crash
from repl_pipelines.lake.history import History
from repl_pipelines.model.column import Policy
from repl_pipelines.model.table import Declaration, Deletes, Mode, TableName, TimePartition
from repl_pipelines.proof.evidence import verify
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.erase import ErasureReport
from tests.sync.canaries import Canaries
from tests.sync.conftest import Bench

NAME, NUMBER = "CanaryOfSubject", "7260543198"
HASHED = "CanaryMember"
WANTED = {
    "people": [{"id": NUMBER}],
    "orders": [{"person": NUMBER}],
    "public.days": [{"who": NAME}],
    "bag": [{"who": NAME}],
    "members": [{"email": HASHED}],
}
DECLARATIONS = (
    Declaration("people", mode=Mode.LOG),
    Declaration("orders", cursor="at", deletes=Deletes.IGNORE),
    Declaration("days", partition=TimePartition("at", start="2026-11-01"), deletes=Deletes.IGNORE),
    Declaration("bag"),
    Declaration("members", cursor="at", policies={"email": Policy.HASH}),
)
GONE = (
    f"delete from people where id = {NUMBER}",
    f"delete from orders where person = {NUMBER}",
    f"delete from days where who = '{NAME}'",
    f"delete from bag where who = '{NAME}'",
    f"delete from members where email = '{HASHED}'",
)


@dataclass
class Place:
    """A replication of all modes with both replicas, and all that it keeps of a subject."""

    bench: Bench
    duck: Path
    replica: str
    server: PostgresServer

    def replication(self, *declarations: Declaration) -> Replication:
        source = PostgresSource("shop", self.bench.dsn, hash_key="the key of these tests")
        declared = declarations or DECLARATIONS
        return Replication("shop", source, self.bench.lake, self.bench.replicas, declared)

    def sync(self, replication: Replication) -> None:
        assert not replication.sync().failed
        for name in replication.replicas:
            replication.apply(name)

    def traces(self, *texts: str) -> Canaries:
        """Where any of these texts can be found."""
        canaries = Canaries(*texts)
        canaries.look_everywhere(self.bench, self.duck, self.replica)
        client, bucket = self.bench.store.client(), self.bench.bucket.name
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for one in page.get("Versions", ()):
                given = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
                content = client.get_object(**given)["Body"].read()
                canaries.look_into(f"version of {one['Key']}", content)
        with psycopg.connect(self.replica, autocommit=True) as connection:
            connection.execute("checkpoint")
            files = connection.execute(
                "select pg_relation_filepath(c.oid) from pg_class c join pg_namespace n"
                " on n.oid = c.relnamespace where n.nspname in ('public', 'pg_toast')"
                " and relkind in ('r', 'i', 't')"
            ).fetchall()
            stats = connection.execute("select * from pg_stats where schemaname = 'public'")
            canaries.look("statistics", repr(stats.fetchall()))
        for (file,) in files:
            for path in self.server.data.glob(f"{file}*"):
                canaries.look(f"replica's file {file}", path.read_bytes())
        return canaries


@pytest.fixture
def place(
    bench: Bench, tmp_path: Path, replica_database: str, replica_postgres: PostgresServer
) -> Iterator[Place]:
    bench.replicas += [
        DuckDBReplica("duck", tmp_path / "duck", "shop"),
        PostgresReplica("pg", replica_database, "shop", patience=1),
    ]
    versioned = {"Status": "Enabled"}
    client, bucket = bench.store.client(), bench.bucket.name
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioned)
    bench.sql(
        "create table people (id bigint primary key, who text, note text)",
        "create table orders (id int primary key, person bigint, note text,"
        " at timestamptz default now())",
        "create table days (who text, at timestamptz)",
        "create table bag (who text)",
        "create table members (id int primary key, email text, at timestamptz default now())",
        f"insert into people values (1, 'other', 'n'), ({NUMBER}, '{NAME}', 'n')",
        f"insert into orders values (1, 1, 'n'), (2, {NUMBER}, '{NAME}'), (3, {NUMBER}, 'n')",
        f"insert into days values ('other', '2026-11-01'), ('{NAME}', '2026-11-02')",
        f"insert into bag values ('other'), ('{NAME}')",
        f"insert into members values (1, 'other'), (2, '{HASHED}')",
    )
    yield Place(bench, tmp_path / "duck", replica_database, replica_postgres)
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            client.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])


def lived(place: Place, replication: Replication) -> None:
    """The subject leaves traces of every kind."""
    place.sync(replication)
    place.bench.sql(
        f"update people set note = '{NAME} again' where id = {NUMBER}",
        f"update orders set note = '{NAME} again', at = now() where person = {NUMBER}",
        # Another's by now; its past is the subject's.
        "update orders set person = 1, note = 'n', at = now() where id = 3",
        "insert into people values (2, 'third', 'n')",
    )
    place.sync(replication)
    with psycopg.connect(place.replica, autocommit=True) as connection:
        connection.execute(f"update bag set who = 'damaged' where who = '{NAME}'".encode())
        connection.execute("analyze")
    assert not replication.prove(fresh=False).proven
    assert replication.repair(limit=1).healed


def test_nothing_of_a_subject_is_left_wherever_it_was_killed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, replication = place.bench, place.replication()
    lived(place, replication)
    found = " ".join(place.traces(NAME, NUMBER).found)
    for where in ("_differences", "shop/public/people", "shop/public/bag", "duck", "replica's"):
        assert where in found, where
    with pytest.raises(ErasureRefused, match=r"still has such rows") as refused:
        replication.erase(WANTED)
    with pytest.raises(ErasureRefused, match="does not fit the type") as unfit:
        replication.erase({"people": [{"id": NAME}]})
    with pytest.raises(DeclarationError, match="no values of a column 'nick'"):
        replication.erase({"people": [{"nick": NAME}]})
    moments = bench.lake.journal.of_table(TableName("public", "people"))
    bench.sql(*GONE)
    some = {name: WANTED[name] for name in ("people", "bag")}
    for point in ERASING:
        monkeypatch.setenv("REPL_PIPELINES_FAILPOINT", f"{point}:raise")
        with pytest.raises(Crash):
            replication.erase(some)
    monkeypatch.delenv("REPL_PIPELINES_FAILPOINT")
    report = replication.erase(WANTED)
    assert report.done, report
    secret = replication.source.in_place_of(replication.tables()[-1].columns[0], [HASHED])
    traces = place.traces(NAME, NUMBER, HASHED, *secret, report.receipt)
    traces.look_at_error(refused.value)
    traces.look_at_error(unfit.value)
    traces.assert_none()
    assert_recorded(place, report)

    # What went is the past; what stays goes on, and is proven.
    tables = {table.name.name: table for table in replication.tables()}
    people = tables["people"]
    history = History.read(bench.lake, people)
    with pytest.raises(HistoryGap, match="erased since"):
        history.as_of(moments[-1].at)
    with (
        pytest.raises(LakeDamaged),
        bench.lake.session() as session,
        bench.lake.table(people.name).reading(),
    ):
        session.execute(
            bench.lake.table(people.name).rows_sql(people, version=moments[0].entry.version)
        )
    bench.sql("update people set note = 'later' where id = 1")
    place.sync(replication)
    assert replication.prove(fresh=False).proven
    now = History.read(bench.lake, people)
    with bench.lake.session() as session:
        then = session.execute(now.as_of(now.entries[0].entry.position.at)).fetchall()
    assert sorted(then) == [(1, "other", "n"), (2, "third", "n")]


def assert_recorded(place: Place, report: ErasureReport) -> None:
    """In each table's chain, as begun by each attempt and as done by one; whose is not told."""
    assert {str(one.table): one.rows for one in report.tables}["public.people"] == 0
    for one in report.tables:
        records = list(place.bench.lake.evidence(one.table).records())
        assert verify(records).broken == ""
        told = [json.loads(content)["erasure"] for _, content in records if b'"erasure"' in content]
        assert max(record["rows"] for record in told) > 0
        assert [record["done"] for record in told].index(True) == len(told) - 1
        assert told[-1]["done"]
        assert told[-1]["tables"] == len(WANTED)
        text = json.dumps(WANTED, sort_keys=True, separators=(",", ":")).encode()
        known = hmac.new(bytes.fromhex(report.receipt), text, hashlib.sha256)
        assert told[-1]["subject"] == known.hexdigest()


def test_rows_that_a_replica_still_shows_to_somebody_are_not_gone(place: Place) -> None:
    replication = place.replication(Declaration("bag"))
    place.sync(replication)
    place.bench.sql(f"delete from bag where who = '{NAME}'")
    with psycopg.connect(place.replica) as reader:
        reader.execute("set transaction isolation level repeatable read")
        assert reader.execute("select count(*) from pg_class").fetchall()
        report = replication.erase({"bag": WANTED["bag"]})
        assert not report.done
        assert isinstance(report.failed["pg"], ReplicaUnavailable)
        assert "still see 2 deleted rows" in str(report.failed["pg"])
    assert replication.erase({"bag": WANTED["bag"]}).done
    traces = place.traces(NAME)
    traces.found = [found for found in traces.found if "bag" in found or "file" in found]
    traces.assert_none()
