"""A source database, its lake, and the oracle that compares them row by row."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from repl_pipelines.lake.lake import Lake
from repl_pipelines.lake.store import Store
from repl_pipelines.model.table import Declaration, Table, TableName
from repl_pipelines.replicas import duckdb, postgres
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync import changes, copy, resume, run, work
from repl_pipelines.sync.engine import Replication
from tests.servers import Bucket, fresh_bucket, fresh_database

Meet = Callable[[str, Callable[[], object]], None]


@dataclass
class Bench:
    """One replication on servers of its own, and direct ways to look at both ends."""

    dsn: str
    bucket: Bucket
    replicas: list[Replica] = field(default_factory=list)
    protection: Protection = field(default_factory=Protection)

    def __post_init__(self) -> None:
        self.store = store_of(self.bucket)
        self.lake = Lake(self.store, "shop")
        self.connection = psycopg.connect(self.dsn, autocommit=True)

    def reconnect(self) -> None:
        """After the server has gone, and come back."""
        self.connection.close()
        self.connection = psycopg.connect(self.dsn, autocommit=True)

    def sql(self, *statements: str) -> list[tuple]:
        """Run statements as the application would; rows of the last one."""
        rows: list[tuple] = []
        for statement in statements:
            cursor = self.connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        return rows

    def replication(self, *declarations: Declaration, dsn: str | None = None) -> Replication:
        source = PostgresSource("shop", dsn or self.dsn, self.protection)
        return Replication("shop", source, self.lake, self.replicas, declarations)

    def lake_rows(self, table: Table) -> list[tuple]:
        """The lake's current state, as text, sorted."""
        copy = self.lake.table(table.name)
        columns = ", ".join(f'"{c.name}"::VARCHAR' for c in table.columns)
        with self.lake.session() as session:
            rows = session.execute(f"SELECT {columns} FROM ({copy.rows_sql(table)})").fetchall()
        return sorted(rows, key=repr)

    def source_rows(self, table: Table) -> list[tuple]:
        columns = ", ".join(f'"{c.name}"::text' for c in table.columns)
        name = f'"{table.name.schema}"."{table.name.name}"'
        return sorted(self.sql("set timezone = 'UTC'", f"SELECT {columns} FROM {name}"), key=repr)

    def assert_equal(self, replication: Replication) -> None:
        """Every table's lake copy holds the source's rows. Only for sources at rest."""
        for table in replication.tables():
            assert self.lake_rows(table) == self.source_rows(table), table.name


def store_of(bucket: Bucket) -> Store:
    return Store(
        bucket=bucket.name,
        prefix="lake",
        endpoint_url=bucket.endpoint_url,
        region=bucket.region,
        access_key=bucket.access_key,
        secret_key=bucket.secret_key,
    )


@pytest.fixture(scope="module")
def shared(
    postgres: PostgresServer,
    replica_postgres: PostgresServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    """A bench for all tests of a module, with a replica of each kind: `duck` and `pg`."""
    with (
        fresh_database(postgres) as dsn,
        fresh_database(replica_postgres) as target,
        fresh_bucket(s3) as bucket,
    ):
        directory = tmp_path_factory.mktemp("replica")
        replicas = [DuckDBReplica("duck", directory, "shop"), PostgresReplica("pg", target, "shop")]
        bench = Bench(dsn, bucket, list(replicas))
        with closing(bench.connection):
            yield bench


@pytest.fixture
def bench(database: str, bucket: Bucket) -> Iterator[Bench]:
    bench = Bench(database, bucket)
    yield bench
    bench.connection.close()


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meet:
    """Do something, once, when the next sync or apply comes to a failpoint."""

    def plan(point: str, action: Callable[[], object]) -> None:
        planned = [action]

        def reach(name: str) -> None:
            if name == point and planned:
                planned.pop()()

        for module in (run, work, copy, changes, resume, duckdb, postgres):
            monkeypatch.setattr(module, "reach", reach)

    return plan


@pytest.fixture
def name() -> Callable[[str], TableName]:
    return lambda table: TableName("public", table)
