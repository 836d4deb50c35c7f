"""Tables as they are in the wild: each kept equal in the lake and both replicas, change by change.

All of them live in one database and one replication, so that they share their syncs.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import duckdb
import psycopg
import pytest

from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.demo.s3_server import S3Server
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Declaration, Deletes, Table, TableName
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sync import work
from repl_pipelines.sync.report import SyncReport
from tests.servers import fresh_bucket, fresh_database
from tests.sync.conftest import Bench
from tests.sync.copies import Rows, duckdb_rows, lake_rows, postgres_rows
from tests.sync.wild import CASES, SCHEMAS, Case


@dataclass
class Wild:
    """What the source and each copy held after the first sync and after the second."""

    reports: tuple[SyncReport, SyncReport]
    tables: dict[str, Table]
    rows: dict[str, dict[str, list[Rows]]]


def schema_of(number: int, case: Case) -> str:
    return SCHEMAS[number % len(SCHEMAS)] if case.table else f"case {number}"


@pytest.fixture(scope="module")
def wild(
    postgres: PostgresServer,
    replica_postgres: PostgresServer,
    s3: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Wild]:
    with (
        fresh_database(postgres) as dsn,
        fresh_database(replica_postgres) as replica_dsn,
        fresh_bucket(s3) as bucket,
        closing(psycopg.connect(replica_dsn, autocommit=True)) as replica_connection,
    ):
        duck = DuckDBReplica("duck", tmp_path_factory.mktemp("wild"), "shop")
        post = PostgresReplica("post", replica_dsn, "shop")
        bench = Bench(dsn, bucket, [duck, post], Protection(chunk=10 * 8192))
        with closing(bench.connection):
            replication = bench.replication(*make(bench))
            names = [name_of(number, case) for number, case in enumerate(CASES.values())]
            found = {t.name: t for t in replication.tables()}
            tables = {case: found[name] for case, name in zip(CASES, names, strict=True)}
            looks = {
                "source": lambda t: postgres_rows(bench.connection, t),
                "lake": lambda t: lake_rows(bench.lake, t),
                "duck": lambda t: duckdb_rows(duck.files.link, t),
                "post": lambda t: postgres_rows(replica_connection, t),
            }
            rows = {case: {end: [] for end in looks} for case in CASES}
            reports: list[SyncReport] = []
            for turn in range(2):
                if turn:
                    change(bench)
                reports.append(replication.sync())
                for replica in bench.replicas:
                    replication.apply(replica.name)
                for case, table in tables.items():
                    for end, look in looks.items():
                        rows[case][end].append(_seen(look, table))
            yield Wild((reports[0], reports[1]), tables, rows)


def _seen(look: Callable[[Table], Rows], table: Table) -> Rows:
    """What is there; an error is its own table's alone."""
    try:
        return look(table)
    except (psycopg.Error, duckdb.Error) as error:
        return [(repr(error),)]


def name_of(number: int, case: Case) -> TableName:
    return TableName(schema_of(number, case), case.table or "t")


def make(bench: Bench) -> list[Declaration]:
    """Make the tables; how they are declared."""
    declarations: list[Declaration] = []
    for number, case in enumerate(CASES.values()):
        enter(bench, number, case)
        bench.sql(case.made)
        name = name_of(number, case)
        declarations.append(Declaration(str(name), **case.declared))  # type: ignore[arg-type]
    return declarations


def change(bench: Bench) -> None:
    for number, case in enumerate(CASES.values()):
        enter(bench, number, case)
        bench.sql(*case.changed.split("; "))


def enter(bench: Bench, number: int, case: Case) -> None:
    schema = quote(schema_of(number, case))
    bench.sql(f"create schema if not exists {schema}", f"set search_path = {schema}, public")


@pytest.mark.parametrize("case", CASES)
def test_the_copies_are_equal_after_every_sync(wild: Wild, case: str) -> None:
    name = wild.tables[case].name
    for turn, report in enumerate(wild.reports):
        assert report.failed.get(name) is None
        source, *copies = (rows[turn] for rows in wild.rows[case].values())
        assert copies == [source, source, source]
    before, after = wild.rows[case]["source"]
    assert before != after or case == "no rows"


@pytest.mark.parametrize("declared", [{}, {"cursor": "at", "deletes": Deletes.IGNORE}], ids=str)
def test_rows_that_move_while_they_are_read(
    bench: Bench, declared: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two chunks rows are updated to other pages, deleted, vacuumed, added at the end."""
    bench.sql(
        "create table t (id int primary key, note text, at timestamptz default clock_timestamp())",
        "insert into t select g, repeat('n', 500) from generate_series(1, 2000) g",
    )
    bench.protection = Protection(workers=1, chunk=30 * 8192)
    replication = bench.replication(Declaration("t", **declared))  # type: ignore[arg-type]
    [table] = replication.tables()
    before = postgres_rows(bench.connection, table)
    chunks: list[str] = []

    def stir(point: str) -> None:
        if point == "sync.part_uploaded":
            chunks.append(point)
            bench.sql(
                f"update t set note = 'moved', at = now() where id % 5 = {len(chunks) % 5}",
                f"delete from t where id % 97 = {len(chunks)}",
                f"insert into t select {len(chunks)} * 10000 + g from generate_series(1, 50) g",
                "vacuum t",
            )

    with monkeypatch.context() as patch:
        patch.setattr(work, "reach", stir)
        assert not replication.sync().failed
    assert len(chunks) > 3
    assert lake_rows(bench.lake, table) == before
    assert not replication.sync().failed
    after = postgres_rows(bench.connection, table)
    if not declared:  # rows that were deleted are nobody's business with `deletes: ignore`
        assert lake_rows(bench.lake, table) == after
    assert set(lake_rows(bench.lake, table)) >= set(after)
