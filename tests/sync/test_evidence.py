"""Every proof leaves a record, chained to the one before it; the state is told from these alone."""

from __future__ import annotations

import json
from importlib.metadata import version

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.commands.exits import Exit
from repl_pipelines.errors import LakeDamaged, ReplicaUnavailable, SourceUnavailable, TableNotFound
from repl_pipelines.model.table import Declaration, TableName, TimePartition
from repl_pipelines.proof.evidence import Told, verify
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sync.state import read_state
from tests.commands.calls import call
from tests.sync.conftest import Bench

T, OTHER = TableName("public", "t"), TableName("public", "other")
EVENTS = TableName("public", "events")


def records(bench: Bench, table: TableName) -> list[dict]:
    chain = list(bench.lake.evidence(table).records())
    assert not verify(chain).broken
    return [json.loads(content) for _, content in chain]


@pytest.mark.usefixtures("aws")
def test_every_proof_is_recorded(bench: Bench, replica_database: str) -> None:
    bench.replicas.append(PostgresReplica("pg", replica_database, "shop"))
    bench.sql(
        "create table t (id int primary key, secret text)",
        "insert into t select g, 'secret ' || g from generate_series(1, 30) g",
        "create table events (at timestamptz)",
        "insert into events values ('2026-11-01'), ('2026-11-02')",
    )
    events = Declaration("events", partition=TimePartition("at", start="2026-11-01"))
    replication = bench.replication(Declaration("t"), events)

    first = replication.prove(run="monday")
    assert first.proven
    assert read_state(bench.lake).proven
    place = f"s3://{bench.bucket.name}/lake/shop"
    assert "4 of 4 copies proven equal" in call("status", place).out
    [record] = records(bench, T)
    assert record["run"] == "monday"
    assert record["software"] == f"repl_pipelines {version('repl-pipelines')}"
    assert [(p["copy"], p["verdict"]) for p in record["proofs"]] == [
        ("lake", "equal"),
        ("pg", "equal"),
    ]
    [proof] = [p for p in first.proofs if (p.table, p.copy) == (T, "pg")]
    told = record["proofs"][1]
    assert told["figures"] == {"reference": str(proof.source), "copy": str(proof.figure)}
    assert told["position"] == json.loads(proof.position.to_json())
    assert proof.evidence
    assert proof.evidence.number == 1
    [record] = records(bench, EVENTS)  # one object for all partitions and copies
    assert {p["partition"] for p in record["proofs"]} == {"2026-11-01", "2026-11-02"}

    bench.sql("update t set secret = 'changed' where id = 1")
    with psycopg.connect(replica_database, autocommit=True) as connection:
        connection.execute("update t set secret = 'damage' where id in (2, 3)")
    second = replication.prove(run="tuesday")
    assert not second.proven
    _, record = records(bench, T)
    assert [(p["copy"], p["verdict"]) for p in record["proofs"]] == [
        ("lake", "equal"),
        ("pg", "different"),
    ]
    told = record["proofs"][1]
    assert 1 <= told["differing_groups"] <= 2
    assert told["differing_rows"] == {"unequal": 2}
    assert {p.evidence.number for p in second.proofs if p.evidence and p.table == T} == {2}
    assert "secret" not in json.dumps(records(bench, T))

    state = read_state(bench.lake)
    assert not state.proven
    table = next(one for one in state.tables if one.name == T)
    assert (table.copies["pg"].told, table.copies["pg"].rows) == (Told.DIFFERENT, 2)
    assert [one.told for one in table.attempts] == [Told.EQUAL, Told.DIFFERENT]
    assert [(step.tables, step.copies) for step in state.steps()] == [((T,), "pg")]
    told = call("status", place, code=Exit.FOUND).out
    assert "3 of 4 copies proven equal" in told
    assert "≠ 2" in told
    assert "It differs in 2 rows: repair" in told
    assert max(map(len, told.splitlines())) <= 80
    assert "\x1b" not in told  # no colours for a file


@pytest.fixture
def aws(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment by which commands find the lake."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", bench.bucket.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bench.bucket.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bench.bucket.secret_key)


def told(record: dict) -> list[tuple[str, str, str]]:
    """Copy, verdict, and the kind of error if there was one."""
    return [(p["copy"], p["verdict"], p.get("error", "")) for p in record["proofs"]]


def test_what_could_not_be_compared_is_recorded_with_its_reason(
    bench: Bench, replica_database: str
) -> None:
    bench.sql("create table t (id int primary key)", "insert into t values (1), (2)")
    bench.sql("create table other (at timestamptz)")  # no rows, so no partitions either
    away = make_conninfo(replica_database, port="1")
    days = TimePartition("at", start="2026-11-01")
    both = Declaration("t"), Declaration("other", partition=days)
    bench.replicas[:] = [PostgresReplica("pg", away, "shop")]
    replication = bench.replication(*both)

    verdict = replication.prove(run="replica away")
    assert not verdict.proven
    assert {p.copy for p in verdict.proofs} == {"lake"}  # proven all the same
    assert isinstance(verdict.unreached["pg"], ReplicaUnavailable)
    [record] = records(bench, T)
    assert told(record) == [("lake", "equal", ""), ("pg", "not compared", "ReplicaUnavailable")]
    assert record["proofs"][1]["reason"] == str(verdict.unreached["pg"])
    assert {gap.evidence.number for gap in verdict.uncompared if gap.evidence} == {1}

    bench.replicas[:] = [PostgresReplica("pg", replica_database, "shop")]
    client = bench.store.client()
    for key in bench.store.keys("lake/shop/public/t/"):
        if key.endswith(".parquet"):
            client.delete_object(Bucket=bench.bucket.name, Key=key)
    verdict = bench.replication(*both).prove(run="file away", fresh=False)
    assert isinstance(verdict.failed[T], LakeDamaged)
    gaps = [(copy, "not compared", "LakeDamaged") for copy in ("lake", "pg")]
    assert told(records(bench, T)[1]) == gaps
    [step] = [step for step in read_state(bench.lake).steps() if T in step.tables]
    assert (step.tables, step.copies) == ((T,), "lake, pg"), "one reason is told once"
    assert told(records(bench, OTHER)[1]) == [("lake", "equal", ""), ("pg", "equal", "")]

    with pytest.raises(SourceUnavailable) as raised:
        bench.replication(*both, dsn=make_conninfo(bench.dsn, port="1")).prove(run="source away")
    gaps = [(copy, "not compared", "SourceUnavailable") for copy in ("lake", "pg")]
    for table in (T, OTHER):
        record = records(bench, table)[2]
        assert (record["run"], told(record)) == ("source away", gaps)
        assert record["proofs"][0]["reason"] == str(raised.value)

    bench.sql("drop table other")
    verdict = bench.replication(Declaration("*")).prove([OTHER], run="table away")
    assert isinstance(verdict.failed[OTHER], TableNotFound)
    gaps = [(copy, "not compared", "TableNotFound") for copy in ("lake", "pg")]
    assert told(records(bench, OTHER)[3]) == gaps

    for table in read_state(bench.lake).tables:
        assert {copy.told for copy in table.copies.values()} == {Told.NOT_COMPARED}
    key = bench.store.keys("lake/shop/_evidence/public/t/")[0]
    client.put_object(Bucket=bench.bucket.name, Key=key, Body=b"tampered")
    [broken] = [one.broken for one in read_state(bench.lake).tables if one.name == T]
    assert broken == "0000000001.json: tampered: not in its canonical form"
