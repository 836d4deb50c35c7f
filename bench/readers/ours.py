"""The first sync of a table, from PostgreSQL to a lake that is proven equal; or its full proof."""

import os
import sys

from bench.places import store
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication


def main(what: str) -> None:
    table = os.environ["BENCH_TABLE"]
    name = f"ours_{table}_{os.getpid()}" if what == "load" else f"ours_{table}"
    source = PostgresSource(name, os.environ["BENCH_DSN"])
    engine = Replication(
        name, source, Lake(store(), name), [], [Declaration(table, mode=Mode.FULL)]
    )
    if what == "prove":
        assert engine.prove().proven
        return
    report = engine.sync()
    assert not report.failed, report.failed


if __name__ == "__main__":
    main(sys.argv[1])
