"""One step of the replication of one table, in a process of its own; syncs do not fold."""

import os
import sys
from pathlib import Path

import psycopg

from bench.bucket import store
from repl_pipelines.lake.fold import FoldPolicy
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication

NEVER = FoldPolicy(share=1e9, files=10**9)


def main(what: str) -> None:
    table, mode = os.environ["BENCH_TABLE"], Mode(os.environ["BENCH_MODE"])
    declared = Declaration(table, mode=mode, cursor="at" if mode is Mode.CURSOR else None)
    source = PostgresSource(table, os.environ["BENCH_DSN"])
    lake = Lake(store(), table)
    replicas = [_replica(what, table)] if what in ("duckdb", "postgres") else []
    engine = Replication(table, source, lake, replicas, [declared], fold=NEVER)
    if what == "sync":
        report = engine.sync()
        assert not report.failed, report.failed
    elif what == "prove":
        assert engine.prove().proven
    elif what == "fold":
        [known] = engine.tables()
        assert lake.table(known.name).fold(known)
    else:
        engine.apply(what)


def _replica(kind: str, table: str) -> Replica:
    if kind == "duckdb":
        return DuckDBReplica(kind, Path(os.environ["BENCH_FOLDER"]) / table, table)
    with psycopg.connect(os.environ["BENCH_DSN"], autocommit=True) as session:
        if not session.execute("select 1 from pg_database where datname = %s", [table]).fetchone():
            session.execute(f"create database {table}".encode())
    dsn = os.environ["BENCH_DSN"].rpartition("/")[0]
    return PostgresReplica(kind, f"{dsn}/{table}", table)


if __name__ == "__main__":
    main(sys.argv[1])
