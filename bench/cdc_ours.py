"""One sync of a table in mode log, to the lake and a DuckDB replica; for `bench.cdc`."""

import os
from pathlib import Path

from bench.bucket import store
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication


def main() -> None:
    replica = DuckDBReplica("copy", Path(os.environ["BENCH_FOLDER"]) / "replica", "bench")
    source = PostgresSource("bench", os.environ["BENCH_DSN"])
    declaration = Declaration("t", mode=Mode.LOG)
    engine = Replication("bench", source, Lake(store(), "bench"), [replica], [declaration])
    report = engine.sync()
    assert not report.failed, report.failed
    engine.apply("copy")


if __name__ == "__main__":
    main()
