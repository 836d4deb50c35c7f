"""Values of every type: server, lake, each replica, compared by meaning, form and figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from repl_pipelines.demo.mariadb_server import MariadbServer
from repl_pipelines.demo.postgres_server import PostgresServer
from repl_pipelines.duck import duckdb_type
from repl_pipelines.model.column import Column, Family, Policy
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import Declaration
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.proof.checksum import row_text
from repl_pipelines.proof.lake_figures import lake_figures
from repl_pipelines.sources.mariadb import values
from repl_pipelines.sources.mariadb.connection import Address, Protection, connect, rows, texts
from repl_pipelines.sources.mariadb.source import MariadbSource
from tests.mariadb.catalogue import MYSQL, TYPES
from tests.servers import fresh_database, fresh_mariadb_database
from tests.types.every import ROWS, drawn
from tests.types.lab import Lab, open_lab

CATALOGUES = {"mariadb": TYPES, "mysql": MYSQL}
Texts = list[tuple[int, str]]


class Carried:
    """The table `every` of a source, and Parquet files of it under one policy for all columns."""

    def __init__(self, address: Address, lab: Lab, directory: Path, policy: Policy) -> None:
        self.address, self.lab = address, lab
        self.connection = connect(address, Protection(), "shop")
        source = MariadbSource("shop", address)
        policies = dict.fromkeys(columns(address.dialect.kind), policy)
        [self.table] = source.discover([Declaration("every", policies=policies)])
        with source.snapshot([self.table]) as snapshot:
            self.figures = snapshot.figures(self.table, Everything(), buckets=4)
            parts = list(snapshot.extract(self.table, Everything(), directory, {"_rp_op": "r"}))
        self.lake = f"read_parquet([{', '.join(literal(str(p.path)) for p in parts)}])"

    def source_texts(self, column: Column) -> Texts:
        form = row_text([values.canonical(column)])
        query = f"SELECT id, {form} FROM every ORDER BY id"
        return [(int(i or 0), str(text)) for i, text in texts(self.connection, query)]


@pytest.fixture(scope="module")
def lab(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with fresh_database(postgres) as dsn:
        lab = open_lab(dsn, tmp_path_factory.mktemp("lake"))
        yield lab
        lab.duck.close()
        lab.server.close()


def columns(server: str) -> dict[str, str]:
    return {f"c{number}": kind for number, kind in enumerate(CATALOGUES[server])}


@contextmanager
def filled(server: MariadbServer) -> Iterator[Address]:
    """A table with a column of each type, all filled."""
    kind = server.DIALECT.kind
    with fresh_mariadb_database(server) as address:
        connection = connect(address, Protection(), "shop")
        defined = ", ".join(f"{name} {type_}" for name, type_ in columns(kind).items())
        rows(connection, f"create table every (id int primary key, {defined})")
        drawings = [drawn(strategy) for strategy in CATALOGUES[kind].values()]
        for number, row in enumerate(zip(*drawings, strict=True)):
            given = ", ".join("NULL" if value is None else value for value in row)
            rows(connection, f"insert into every values ({number}, {given})")
        connection.close()
        yield address


@pytest.fixture(scope="module")
def mariadb_every(mariadb: MariadbServer) -> Iterator[Address]:
    with filled(mariadb) as address:
        yield address


@pytest.fixture(scope="module")
def mysql_every(mysql: MariadbServer) -> Iterator[Address]:
    with filled(mysql) as address:
        yield address


@pytest.fixture(scope="module")
def carried(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Carried:
    server, policy = request.param
    address = request.getfixturevalue(f"{server}_every")
    return Carried(address, lab, tmp_path_factory.mktemp(server), policy)


def cases(policy: Policy) -> pytest.MarkDecorator:
    """Every type of every server, with the table that holds it under one policy."""
    found = [
        pytest.param((server, policy), name, id=f"{server}-{kind}")
        for server in CATALOGUES
        for name, kind in columns(server).items()
    ]
    return pytest.mark.parametrize(("carried", "name"), found, indirect=["carried"])


@cases(Policy.FAIL)
def test_every_copy_equals_the_source(carried: Carried, name: str) -> None:
    check(carried, name)
    column = carried.table.column(name)
    query = f"SELECT {quote(name)} FROM {carried.lake} ORDER BY id"
    found = [value for (value,) in carried.lab.duck.execute(query).fetchall()]
    query = f"select {as_client(column)} from every order by id"
    assert found == [meant(column, value) for (value,) in rows(carried.connection, query)]


@cases(Policy.TEXT)
def test_a_column_kept_as_text_loses_nothing(carried: Carried, name: str) -> None:
    check(carried, name)


@pytest.mark.parametrize(
    "carried",
    [(server, policy) for server in CATALOGUES for policy in (Policy.FAIL, Policy.TEXT)],
    indirect=True,
)
def test_figures_and_buckets_are_those_of_the_lake(carried: Carried) -> None:
    query = f"SELECT * FROM {carried.lake}"
    lake = lake_figures(carried.lab.duck, carried.table, query, buckets=4)
    assert carried.figures == lake
    assert len(lake.groups) == 4


def check(carried: Carried, name: str) -> None:
    column, lab = carried.table.column(name), carried.lab
    source = carried.source_texts(column)
    assert len(source) == ROWS
    assert len({text for _, text in source}) > 1
    lake = f"(SELECT id, {quote(name)} AS v FROM {carried.lake})"
    [(kind,)] = lab.duck.execute(f"SELECT typeof(v) FROM {lake} LIMIT 1").fetchall()
    assert kind == duckdb_type(column.lake_type)
    assert lab.duck_texts(f"{lake} AS t", duckdb_canonical(column, "v")) == source
    copy = replace(column, name="v")
    assert lab.duckdb_replica(lake, copy) == source
    assert lab.postgres_replica(lake, copy) == source


def as_client(column: Column) -> str:
    """Of a float the server would write six digits, of a double(9,2) two after the point."""
    name = quote(column.name)
    floats = column.family in (Family.FLOAT4, Family.FLOAT8)
    return f"cast({name} as double)" if floats else name


def meant(column: Column, value: Any) -> object:
    """What a client of the source has of a value, as one of the lake should have it."""
    kind = values.data_type(column)
    if value is None:
        return None
    if kind == "bit":
        width = int(column.source_type[4:-1])
        return f"{int.from_bytes(value, 'big'):0{width}b}"
    if kind == "time":
        sign, size = ("-", -value) if value < timedelta(0) else ("", value)
        minutes, seconds = divmod(size // timedelta(microseconds=1), 60_000_000)
        fraction = f".{seconds % 1_000_000:06}".rstrip("0").rstrip(".")
        return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds // 1_000_000:02}{fraction}"
    if kind == "timestamp":
        return value.replace(tzinfo=UTC)
    if kind == "decimal" and column.family is Family.TEXT:
        return format(value, "f")
    return value
