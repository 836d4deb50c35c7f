"""A shop in MariaDB, its copies, and direct ways to look at all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Declaration, Table
from repl_pipelines.replicas.duckdb import DuckDBReplica
from repl_pipelines.replicas.postgres import PostgresReplica
from repl_pipelines.sources.mariadb.connection import (
    Address,
    Connection,
    Protection,
    connect,
    rows,
)
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sync.engine import Replication
from tests.family import spelled


class Shop:
    """One replication of a MariaDB database to a lake and two replicas."""

    def __init__(self, address: Address, lake: Lake, directory: Path, target: str) -> None:
        self.address, self.lake, self.directory, self.target = address, lake, directory, target
        self.source = MariadbSource("shop", address, Protection(workers=2, chunk=4096))
        self.connection = connect(address, Protection(), "test")
        self.replicas = (
            DuckDBReplica("duckdb", directory, "shop"),
            PostgresReplica("postgres", target, "shop"),
        )

    def sql(self, *statements: str) -> Sequence[Any]:
        told = (spelled(self.address, statement) for statement in statements)
        return [rows(self.connection, statement) for statement in told][-1]

    def replication(self, *declarations: Declaration) -> Replication:
        return Replication("shop", self.source, self.lake, self.replicas, declarations)

    def settle(self, replication: Replication) -> None:
        """Sync; every copy must hold the source's rows. Only for sources at rest."""
        report = replication.sync()
        assert not report.failed, report.failed
        for replica in self.replicas:
            replication.apply(replica.name)
        for table in replication.tables():
            wanted = self.in_source(table)
            assert self.in_lake(table) == wanted, table.name
            assert self.in_duckdb(table) == wanted, table.name
            assert self.in_postgres(table) == wanted, table.name

    def in_source(self, table: Table) -> list[tuple]:
        columns = ", ".join(
            f"lpad(bin({n}), 3, '0')" if k.startswith("bit") else f"cast({n} as char)"
            for n, k in ((quote(c.name), c.source_type) for c in table.columns)
        )
        found = self.sql(f"select {columns} from {quote(table.name.name)}")
        return ordered(
            [
                tuple(_trimmed(c, v) for c, v in zip(table.columns, row, strict=True))
                for row in found
            ]
        )

    def in_lake(self, table: Table) -> list[tuple]:
        with self.lake.session() as session:
            query = self.lake.table(table.name).rows_sql(table)
            return self._texts(session, f"({query})", table)

    def in_duckdb(self, table: Table) -> list[tuple]:
        with duckdb.connect(str(self.directory / "duckdb.duckdb"), read_only=True) as session:
            return self._texts(session, f'"{table.name.schema}"."{table.name.name}"', table)

    def in_postgres(self, table: Table) -> list[tuple]:
        columns = ", ".join(
            f"({quote(c.name)} at time zone 'UTC')::text"
            if c.family is Family.TIMESTAMPTZ
            else f"{quote(c.name)}::text"
            for c in table.columns
        )
        with psycopg.connect(self.target) as connection:
            query = f'select {columns} from "{table.name.schema}"."{table.name.name}"'
            return ordered(connection.execute(query.encode()).fetchall())

    def _texts(
        self, session: duckdb.DuckDBPyConnection, relation: str, table: Table
    ) -> list[tuple]:
        session.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(
            f"{quote(c.name)}::TIMESTAMP::VARCHAR"
            if c.family is Family.TIMESTAMPTZ
            else f"{quote(c.name)}::VARCHAR"
            for c in table.columns
        )
        return ordered(session.execute(f"SELECT {columns} FROM {relation} AS t").fetchall())


def _trimmed(column: Column, text: str | None) -> str | None:
    """A time as the other engines write it."""
    timed = column.source_type.startswith(("time", "datetime"))
    return text.rstrip("0").rstrip(".") if timed and text and "." in text else text


def ordered(found: Sequence[tuple]) -> list[tuple]:
    return sorted(found, key=repr)


@contextmanager
def transaction(shop: Shop) -> Iterator[Connection]:
    with closing(connect(shop.address, Protection(), "test")) as connection:
        rows(connection, "begin")
        yield connection
