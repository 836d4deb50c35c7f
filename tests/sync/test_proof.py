"""A proof finds every damage in every copy, raises no false alarm, and hides nothing by healing."""

from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from repl_pipelines.model.table import Declaration, Deletes, TableName, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sync.engine import Replication
from tests.sync.conftest import Bench

T = TableName("public", "t")
EVENTS = TableName("public", "events")
DECLARATIONS = (
    Declaration("t", cursor="at"),
    Declaration("events", partition=TimePartition("at", start="2026-11-01")),
)
# Each kind of damage, as an UPDATE of one copy, and where it is found.
DAMAGE = {
    "row deleted": "DELETE FROM t WHERE id = 7",
    "row added": 'INSERT INTO t SELECT 9999, a, b, n, x, "at", note FROM t WHERE id = 7',
    "one bit": "UPDATE t SET x = 0.30000000000000004 WHERE id = 7",
    "empty for NULL": "UPDATE t SET a = '' WHERE id = 8",
    "NULL for empty": "UPDATE t SET a = NULL WHERE id = 9",
    "trailing blank": "UPDATE t SET note = note || ' ' WHERE id = 7",
    "numeric's scale": "UPDATE t SET n = '1.50' WHERE id = 7",
    "time zone shift": 'UPDATE t SET "at" = "at" + INTERVAL \'1 hour\' WHERE id = 7',
    "columns swapped": "UPDATE t SET a = b, b = a WHERE id = 7",
    "rows swapped": "UPDATE t SET note = CASE id WHEN 7 THEN 'note 10' ELSE 'note 7' END"
    " WHERE id IN (7, 10)",
    "case": "UPDATE t SET note = upper(note) WHERE id = 7",
    "minus zero": "UPDATE t SET x = '-0' WHERE id = 11",
}
ROW = "id=7, a=a7, b=b7, n=1.5, x=0.3, at=2026-11-01 00:00:00+00, note=note 7"
FOUND = {
    "row deleted": {("missing", "id=7", "", ROW, None)},
    "row added": {("extra", "id=9999", "", None, ROW.replace("id=7", "id=9999"))},
    "one bit": {("unequal", "id=7", "x", "0.3", "0.30000000000000004")},
    "empty for NULL": {("unequal", "id=8", "a", None, "")},
    "NULL for empty": {("unequal", "id=9", "a", "", None)},
    "trailing blank": {("unequal", "id=7", "note", "note 7", "note 7 ")},
    "numeric's scale": {("unequal", "id=7", "n", "1.5", "1.50")},
    "time zone shift": {
        ("unequal", "id=7", "at", "2026-11-01 00:00:00+00", "2026-11-01 01:00:00+00")
    },
    "columns swapped": {("unequal", "id=7", "a", "a7", "b7"), ("unequal", "id=7", "b", "b7", "a7")},
    "rows swapped": {
        ("unequal", "id=7", "note", "note 7", "note 10"),
        ("unequal", "id=10", "note", "note 10", "note 7"),
    },
    "case": {("unequal", "id=7", "note", "note 7", "NOTE 7")},
    "minus zero": {("unequal", "id=11", "x", "0.0", "-0.0")},
}
# Alone in a replica; test_repair.py plants all kinds in each copy, together and under writers.
ALONE = ("row deleted", "empty for NULL", "rows swapped", "minus zero")
# DuckDB skips an update to a value that compares equal: it takes a detour by another one.
DETOUR = "UPDATE t SET x = 1 WHERE id = 11"


@pytest.fixture(scope="module")
def copies(shared: Bench) -> tuple[Bench, Replication]:
    """One replicated source for all damages; each test plants one, finds it, and heals it."""
    shared.sql(
        "create table t (id bigint primary key, a text, b text, n numeric, x double precision,"
        " at timestamptz default now(), note text)",
        "create index on t (at)",
        "insert into t select g, 'a' || g, 'b' || g, 1.5, 0.3, '2026-11-01', 'note ' || g"
        " from generate_series(1, 300) g",
        "update t set a = null where id = 8",
        "update t set a = '' where id = 9",
        "update t set x = 0 where id = 11",
        "create table events (id bigint, at timestamptz, kind text)",
        "insert into events select g, '2026-11-01'::timestamptz + g * interval '6 hours', 'k'"
        " from generate_series(1, 40) g",
    )
    replication = shared.replication(*DECLARATIONS)
    assert not replication.sync().failed
    verdict = replication.prove(fresh=False)
    assert verdict.proven
    assert {proof.copy for proof in verdict.proofs} == {"lake", "duck", "pg"}
    return shared, replication


def duck_file(replication: Replication) -> Path:
    replica = replication.replicas["duck"]
    assert isinstance(replica, DuckDBReplica)
    return Path(replica.directory) / "duck.duckdb"


def assert_found(replication: Replication, copy: str, damage: str) -> None:
    """In this copy alone, at its row and column, with both values."""
    verdict = replication.prove([T])
    assert not verdict.failed
    for proof in verdict.proofs:
        assert proof.proven == (not proof.differences)
    [proof] = [proof for proof in verdict.proofs if not proof.proven]
    assert proof.copy == copy
    listed = {(d.kind, d.key, d.column, d.source, d.copy) for d in proof.found.listed}
    assert listed == FOUND[damage]
    assert proof.found.rows == len({key for _, key, *_ in listed})
    assert not proof.found.rest
    batches = {d.batch for d in proof.found.listed}
    assert batches == {None if copy == "lake" and damage == "row deleted" else 1} or (
        copy != "lake" and damage == "row added"
    )


@pytest.mark.parametrize("damage", ALONE)
def test_damage_in_the_duckdb_replica_is_found(
    copies: tuple[Bench, Replication], damage: str
) -> None:
    _, replication = copies
    last = replication.lake.journal.newest()[T, None].sync
    file = duck_file(replication)
    before = file.resolve().read_bytes()
    with duckdb.connect(str(file.resolve())) as session:
        session.execute("SET TimeZone = 'UTC'")
        session.execute("USE public")
        if damage == "minus zero":
            session.execute(DETOUR)
        session.execute(DAMAGE[damage])
    try:
        assert_found(replication, "duck", damage)
        newest = replication.lake.journal.newest()
        assert newest[T, None].sync == last, "what is found to be damaged must not move on"
    finally:
        file.resolve().write_bytes(before)
    assert replication.prove(fresh=False).proven


@pytest.mark.parametrize("damage", ALONE)
def test_damage_in_the_postgres_replica_is_found(
    copies: tuple[Bench, Replication], damage: str
) -> None:
    _, replication = copies
    replica = replication.replicas["pg"]
    assert isinstance(replica, PostgresReplica)
    with psycopg.connect(replica.dsn, autocommit=True) as connection:
        connection.execute("create table kept as select * from t")
        connection.execute(DAMAGE[damage].encode())
        try:
            assert_found(replication, "pg", damage)
        finally:
            connection.execute("delete from t")
            connection.execute("insert into t select * from kept")
            connection.execute("drop table kept")
    assert replication.prove(fresh=False).proven


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_the_lake_is_found(copies: tuple[Bench, Replication], damage: str) -> None:
    bench, replication = copies
    copy = bench.lake.table(T)
    [file] = copy.files()
    key = f"{copy.uri.removeprefix(f's3://{bench.bucket.name}/')}/{file.path}"
    client = bench.store.client()
    before = client.get_object(Bucket=bench.bucket.name, Key=key)["Body"].read()
    client.put_object(Bucket=bench.bucket.name, Key=key, Body=_damaged(before, DAMAGE[damage]))
    try:
        assert_found(replication, "lake", damage)
    finally:
        client.put_object(Bucket=bench.bucket.name, Key=key, Body=before)
    assert replication.prove(fresh=False).proven


def _damaged(parquet: bytes, statement: str) -> bytes:
    with duckdb.connect() as session:
        session.execute("SET TimeZone = 'UTC'")
        session.register("rows", pq.read_table(pa.BufferReader(parquet)))
        session.execute("CREATE TABLE t AS FROM rows")
        if statement.startswith("INSERT"):
            statement = "INSERT INTO t SELECT * REPLACE (9999 AS id) FROM t WHERE id = 7"
        if "'-0'" in statement:
            session.execute(DETOUR)
        session.execute(statement)
        sink = pa.BufferOutputStream()
        pq.write_table(session.table("t").to_arrow_table(), sink)
        return sink.getvalue().to_pybytes()


def test_a_damaged_partition_is_named(copies: tuple[Bench, Replication]) -> None:
    _, replication = copies
    replica = replication.replicas["pg"]
    assert isinstance(replica, PostgresReplica)
    with psycopg.connect(replica.dsn, autocommit=True) as connection:
        connection.execute("update events set kind = 'x' where id = 5")
        connection.execute("insert into events values (77, '2026-12-24', 'stray')")
        verdict = replication.prove(fresh=False)
        wrong = {(p.copy, p.partition) for p in verdict.proofs if not p.proven}
        assert wrong == {("pg", "2026-11-02"), ("pg", "2026-12-24")}
        connection.execute("update events set kind = 'k' where id = 5")
        connection.execute("delete from events where id = 77")
    assert replication.prove(fresh=False).proven


def test_differences_list_the_groups_of_both_sides(copies: tuple[Bench, Replication]) -> None:
    _, replication = copies
    replica = replication.replicas["pg"]
    assert isinstance(replica, PostgresReplica)
    with psycopg.connect(replica.dsn, autocommit=True) as connection:
        connection.execute("update t set note = 'x' where id = 7")
        [proof] = [p for p in replication.prove([T], fresh=False).proofs if not p.proven]
        [difference] = proof.differences
        assert difference.source.rows == difference.copy.rows
        assert difference.source != difference.copy
        connection.execute("update t set note = 'note 7' where id = 7")


def test_a_fresh_proof_sees_what_a_sync_without_reconciliation_cannot(bench: Bench) -> None:
    bench.sql(
        "create table t (id int primary key, at timestamptz default now())",
        "insert into t select g from generate_series(1, 100) g",
    )
    replication = bench.replication(Declaration("t", cursor="at", deletes=Deletes.IGNORE))
    replication.sync()
    assert replication.prove(fresh=True).proven
    bench.sql("delete from t where id = 5")
    replication.sync()
    [proof] = replication.prove(fresh=True).proofs
    assert not proof.proven
    assert (proof.source.rows, proof.figure.rows) == (99, 100)
