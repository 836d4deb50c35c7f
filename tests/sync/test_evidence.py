"""Every proof leaves a record, chained to the one before it; nothing of the rows is in it."""

from __future__ import annotations

import json
from importlib.metadata import version

import psycopg

from repl_pipelines.model.table import Declaration, TableName, TimePartition
from repl_pipelines.proof.evidence import verify
from repl_pipelines.replicas.postgres import PostgresReplica
from tests.sync.conftest import Bench

T = TableName("public", "t")
EVENTS = TableName("public", "events")


def records(bench: Bench, table: TableName) -> list[dict]:
    chain = list(bench.lake.evidence(table).records())
    assert not verify(chain).broken
    return [json.loads(content) for _, content in chain]


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
