"""The first sync of a table to a lake that is proven equal; or its full proof."""

import os
import sys
from urllib.parse import urlsplit

from bench.bucket import store
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.table import Declaration, Mode
from repl_pipelines.sources.contract import Source
from repl_pipelines.sync.engine import Replication


def main(what: str) -> None:
    table = os.environ["BENCH_TABLE"]
    name = f"ours_{table}_{os.getpid()}" if what == "load" else f"ours_{table}"
    declaration = Declaration(table, mode=Mode.FULL)
    engine = Replication(name, _source(name), Lake(store(), name), [], [declaration])
    if what == "prove":
        assert engine.prove().proven
        return
    report = engine.sync()
    assert not report.failed, report.failed


def _source(name: str) -> Source:
    """Only what is measured is imported."""
    place = urlsplit(os.environ["BENCH_DSN"])
    if place.scheme != "mysql":
        from repl_pipelines.sources.postgres.source import PostgresSource

        return PostgresSource(name, place.geturl())
    from repl_pipelines.sources.mariadb.connection import Address
    from repl_pipelines.sources.mariadb.own import MARIADB
    from repl_pipelines.sources.mariadb.source import MariadbSource

    host, user, password = place.hostname or "", place.username or "", place.password or ""
    database = place.path.strip("/")
    where = Address(host, user, database, password, place.port or 3306, dialect=MARIADB)
    return MariadbSource(name, where)


if __name__ == "__main__":
    main(sys.argv[1])
