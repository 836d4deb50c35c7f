"""One sync of all tables of `bench.many`, to the lake and a DuckDB replica."""

import os
from pathlib import Path

from bench.bucket import store
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication


def main() -> None:
    mode = Mode(os.environ["BENCH_MODE"])
    cursor = "at" if mode is Mode.CURSOR else None
    names = [f"t{n}" for n in range(int(os.environ["BENCH_TABLES"]))]
    declared = [Declaration(name, mode=mode, cursor=cursor) for name in names]
    replica = DuckDBReplica("copy", Path(os.environ["BENCH_FOLDER"]) / mode.value, "bench")
    place = f"many_{mode.value}"
    source = PostgresSource(place, os.environ["BENCH_DSN"])
    engine = Replication("many", source, Lake(store(), place), [replica], declared)
    report = engine.sync()
    assert not report.failed, report.failed
    engine.apply("copy")


if __name__ == "__main__":
    main()
