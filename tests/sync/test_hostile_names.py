"""Names and values that would be SQL, formats or paths if anything pasted them unquoted.

Databases, schemas, tables, keys, columns, enum labels, the source and a replica have such names, in
every mode; what proofs, bisection and repairs say and do is held against the source.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import duckdb
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.mysql_server import MysqlServer
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.lake.history import History
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.column import Policy
from repl_pipelines.model.selection import Range
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Declaration, Mode, TableName, TimePartition
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.contract import Source
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sources.postgres.source import PostgresSource
from repl_pipelines.sync.engine import Replication
from tests.servers import Bucket
from tests.sync.conftest import store_of

END = "'; drop table victim; --"
SOURCE = f'shop{END}"%s{{0}}\n$1'
PLACE = "a'b\"c;%s{x} `d` -- \\"  # of a database, and of a schema
TABLES = {
    "log%s\"'; drop table victim; --": Mode.LOG,
    "cursor{}{0}\\'' /* \n\t*/ $1 :a ?": Mode.CURSOR,
    "select": Mode.FULL,
    "ü" * 31 + "x": Mode.PARTITION,  # 63 bytes
}
NUMBERED = "n'o\";%s{}"
KEY, TIME, COLUMN = "k\"e'y;%s", "at\n{0}\\", "-- `c` 100% ''$$"
VALUES = [
    END,
    '"',
    "\\",
    "\\'",
    "%s %(x)s %%",
    "{0} {}",
    "\n\t\r",
    "$$;$1 :a ?",
    "`x`",
    "日本🐘",
    "",
]
LABEL = "o'k\";{}%s\\"


@dataclass
class Hostile:
    """One replication of these tables, and ways to speak to its source and its replicas."""

    source: Source
    lake: Lake
    duck: DuckDBReplica
    post: PostgresReplica
    schema: str
    run: Callable[[str], list[tuple]]

    def replication(self) -> Replication:
        replicas = (self.duck, self.post)
        declared = [self.declaration(name, mode) for name, mode in TABLES.items()]
        return Replication(SOURCE, self.source, self.lake, replicas, declared)

    def declaration(self, name: str, mode: Mode) -> Declaration:
        full = f"{self.schema}.{name}"
        if mode is Mode.PARTITION:
            return Declaration(full, partition=TimePartition(TIME))
        return Declaration(full, mode=mode, cursor=TIME if mode is Mode.CURSOR else None)

    def fill(self, name: str) -> None:
        columns = ", ".join(map(quote, (KEY, TIME, COLUMN, "e")))
        given = ", ".join(
            f"({literal(f'{i}{END}')}, '2026-11-0{1 + i % 3}', {literal(value)}, {literal(LABEL)})"
            for i, value in enumerate(VALUES)
        )
        self.run(f"insert into {self.named(name)} ({columns}) values {given}")

    def change(self, name: str) -> None:
        key, value = literal(f"3{END}"), literal(f"changed{END}")
        self.run(
            f"update {self.named(name)} set {quote(COLUMN)} = {value}, {quote(TIME)} = "
            f"'2026-11-20' where {quote(KEY)} = {key}"
        )
        self.run(f"delete from {self.named(name)} where {quote(KEY)} = {literal(f'4{END}')}")

    def named(self, name: str) -> str:
        return f"{quote(self.schema)}.{quote(name)}"

    def seen(self, run: Callable[[str], list[tuple]], name: str) -> list[tuple]:
        columns = ", ".join(f"cast({quote(c)} as char(99))" for c in (KEY, COLUMN, "e"))
        found = run(f"select {columns} from {self.named(name)}")
        return sorted(tuple(str(value).rstrip(" ") for value in row) for row in found)


@pytest.fixture
def postgresql(
    postgres: PostgresServer, replica_database: str, bucket: Bucket, tmp_path: Path
) -> Iterator[Hostile]:
    postgres.create_database(PLACE)
    # A URL says the name in another writing.
    dsn = make_conninfo(postgres.dsn("postgres"), dbname=PLACE)
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:

        def run(statement: str) -> list[tuple]:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        run(f"create schema {quote(PLACE)}")
        run("create table victim (id int)")
        run(f"create type mood as enum ({literal(LABEL)}, '''')")
        for name in TABLES:
            run(
                f"create table {quote(PLACE)}.{quote(name)} ({quote(KEY)} text primary key,"
                f" {quote(TIME)} timestamp not null, {quote(COLUMN)} text, e mood)"
            )
        source = PostgresSource(SOURCE, dsn)
        yield world(source, replica_database, bucket, tmp_path, (PLACE, run))
    postgres.drop_database(PLACE)


@pytest.fixture
def mariadb_world(
    mariadb: MariadbServer, replica_database: str, bucket: Bucket, tmp_path: Path
) -> Iterator[Hostile]:
    with family_world(mariadb.address(), replica_database, bucket, tmp_path) as hostile:
        yield hostile


@pytest.fixture
def mysql_world(
    mysql: MysqlServer, replica_database: str, bucket: Bucket, tmp_path: Path
) -> Iterator[Hostile]:
    with family_world(mysql.address(), replica_database, bucket, tmp_path) as hostile:
        yield hostile


@contextmanager
def family_world(
    root: Address, replica_database: str, bucket: Bucket, tmp_path: Path
) -> Iterator[Hostile]:
    place = PLACE.rstrip("- \\")
    with connect(root, Protection(), "test") as connection:

        def run(statement: str) -> list[tuple]:
            return list(rows(connection, statement))

        run(f"create database {quote(place)}")
        run(f"use {quote(place)}")
        run("create table victim (id int)")
        for name in TABLES:
            run(
                f"create table {quote(name)} ({quote(KEY)} varchar(99) collate utf8mb4_bin primary"
                f" key, {quote(TIME)} datetime not null, {quote(COLUMN)} text,"
                f" e enum({literal(LABEL)}, ''''), index ({quote(TIME)}))"
            )
        source = MariadbSource(SOURCE, replace(root, database=place))
        yield world(source, replica_database, bucket, tmp_path, (place, run))
        run(f"drop database {quote(place)}")


def world(
    source: Source,
    target: str,
    bucket: Bucket,
    directory: Path,
    place: tuple[str, Callable[[str], list[tuple]]],
) -> Hostile:
    duck = DuckDBReplica("d'u\"c;k%s{0}", directory / "re'plica\"%s", SOURCE)
    post = PostgresReplica(SOURCE, target, SOURCE)
    return Hostile(source, Lake(store_of(bucket), SOURCE), duck, post, *place)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb_world", "mysql_world"])
def test_names_and_values_are_never_sql(kind: str, request: pytest.FixtureRequest) -> None:
    hostile: Hostile = request.getfixturevalue(kind)
    replication = hostile.replication()
    for turn in (hostile.fill, hostile.change):
        for name in TABLES:
            turn(name)
        report = replication.sync()
        assert report.failed == {}
        for replica in replication.replicas:
            replication.apply(replica)
    assert replication.prove().proven
    with psycopg.connect(hostile.post.dsn, autocommit=True) as warehouse:

        def copied(statement: str) -> list[tuple]:
            cursor = warehouse.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        for name in TABLES:
            source = hostile.seen(hostile.run, name)
            assert len(source) == len(VALUES) - 1
            assert hostile.seen(copied, name) == source
            with duckdb.connect(str(hostile.duck.files.link), read_only=True) as session:
                assert hostile.seen(lambda q, s=session: s.execute(q).fetchall(), name) == source

        # Damage of each table of a replica is found by its row, told, and healed. Of one in mode
        # log it is, once nothing else is found.
        value, key = literal(f"x{END}"), literal(f"5{END}")

        def damage(name: str) -> TableName:
            where = f"{quote(COLUMN)} = {value} where {quote(KEY)} = {key}"
            copied(f"update {hostile.named(name)} set {where}")
            return TableName(hostile.schema, name)

        logged, *others = TABLES
        damaged = {damage(name) for name in others}
        verdict = replication.prove()
        found = {p.table: p for p in verdict.proofs if p.copy == SOURCE and not p.proven}
        assert set(found) == damaged
        assert f"5{END}" in repr(found).replace("\\'", "'")
        assert replication.repair(limit=1.0, found=verdict).healed
        assert replication.repair([damage(logged)], limit=1.0).healed
        for name in TABLES:
            assert hostile.seen(copied, name) == hostile.seen(hostile.run, name)
    # And of the lake, whose file is gone.
    lost = TableName(hostile.schema, "select")
    files = [k for k in hostile.lake.store.keys(f"{hostile.lake.folder}/") if "/select/_rp" in k]
    hostile.lake.store.delete(files)
    assert not replication.prove().proven
    assert replication.repair([lost], limit=1.0).healed
    assert replication.prove().proven
    numbered_rows_are_shared_out_and_erased(hostile)
    hostile.run("select id from victim")
    for trace in hostile.source.traces():
        hostile.source.erase(trace)


def numbered_rows_are_shared_out_and_erased(hostile: Hostile) -> None:
    """What only a key of numbers, a long value, a mask, or the end of a copy's life leads to."""
    name, long = TableName(hostile.schema, NUMBERED), f"long{END}"
    table = hostile.named(NUMBERED)
    columns = f"{quote(KEY)} bigint primary key, {quote(COLUMN)} text, {quote(long)} text"
    hostile.run(f"create table {table} ({columns})")
    value = random.Random(7).randbytes(9000).hex()  # too long for the log to tell it again
    for i in range(1, 9):
        hostile.run(f"insert into {table} values ({i}, {literal(END)}, {literal(value)})")
    hostile.run(f"analyze {'' if hostile.source.kind == 'postgres' else 'table '}{table}")
    declared = Declaration(f"{name}", mode=Mode.LOG, policies={COLUMN: Policy.MASK})
    replicas, period = (hostile.duck, hostile.post), timedelta(days=1)
    replication = Replication(
        SOURCE, hostile.source, hostile.lake, replicas, [declared], period=period
    )
    assert replication.sync().failed == {}
    hostile.run(f"update {table} set {quote(COLUMN)} = 'new' where {quote(KEY)} in (3, 4)")
    assert replication.sync().failed == {}
    assert replication.prove().proven
    [found] = replication.tables()
    with hostile.lake.session() as session:
        query = History.read(hostile.lake, found).versions({KEY: "3"})
        assert session.execute(query).fetchall()
    hostile.run(f"delete from {table} where {quote(KEY)} = 4")
    erased = replication.erase({str(name): [{KEY: "4"}]})
    assert erased.done, erased
    whole = replace(declared, mode=Mode.FULL)
    again = Replication(SOURCE, hostile.source, hostile.lake, (), [whole])
    assert again.sync(recopy={name: Range(KEY, "2", "7")}).failed == {}
    assert again.prove().proven
    for replica in replicas:
        assert table in replica.read_sql(found)
        assert replica.traces()
        replica.rename(f"{SOURCE}2")
    replicas = (
        DuckDBReplica(hostile.duck.name, hostile.duck.directory, f"{SOURCE}2"),
        PostgresReplica(SOURCE, hostile.post.dsn, f"{SOURCE}2"),
    )
    for replica in replicas:
        assert replica.sync_number() > 0
        replica.remove()
        assert replica.sync_number() == 0
