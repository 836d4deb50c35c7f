"""PostgreSQL is a source as the contract wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import duckdb
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from repl_pipelines.duck import Limits
from repl_pipelines.errors import TerminalError
from repl_pipelines.model.selection import Everything
from repl_pipelines.model.table import Declaration
from repl_pipelines.sources.contract import Source
from repl_pipelines.sources.postgres.chunks import HELD
from repl_pipelines.sources.postgres.connection import Protection
from repl_pipelines.sources.postgres.source import PostgresSource
from tests.conformance.source import SourceConformance, scan

TABLES = """
create table orders (id integer primary key, note text, price numeric(8,2), changed timestamptz);
create index on orders (changed);
insert into orders select g, case when g <> 10 then 'n' || g end, g + 0.25,
  case when g <> 20 then timestamptz '2026-11-01 00:00+00' + g * interval '1 minute' end
  from generate_series(1, 100) g;
create table events (at timestamptz, kind text);
insert into events values ('2026-11-01 00:00+00', 'a'), ('2026-11-01 23:59+00', 'b'),
  ('2026-11-01 23:59+00', 'b'), ('2026-11-02 00:00+00', null), (null, 'never');
create table empty (id integer primary key);
create table pairs (a integer, b integer);
insert into pairs values (1, 1), (1, 2);
"""


class TestPostgresSource(SourceConformance):
    CONNECTION = psycopg.Connection
    MISFIT = ("price", "'NaN'")
    PROTECTION: ClassVar = Protection(workers=3, chunk=1)  # a statement a page

    @pytest.fixture
    def source(self, database: str) -> PostgresSource:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(TABLES.encode())
        return PostgresSource("shop", database, self.PROTECTION)

    def schema(self, source: Source) -> str:
        return "public"

    def execute(self, source: Source, statement: str) -> None:
        with psycopg.connect(address(source), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def in_transaction(self, source: Source, statement: str) -> Iterator[None]:
        with psycopg.connect(address(source)) as connection:
            connection.execute(statement.encode())
            yield

    def unreachable(self, source: Source) -> Source:
        return PostgresSource(source.name, make_conninfo(address(source), port=1))

    def again(self, source: Source) -> Source:
        return PostgresSource(source.name, address(source), self.PROTECTION)


def test_rows_too_wide_for_the_memory_are_read_in_smaller_chunks(
    database: str, tmp_path: Path
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            b"create table wide (id int primary key, body text);"
            b" insert into wide select g, repeat(md5(g::text), 20000)"
            b" from generate_series(1, 200) g;"
            b" create view seen as select * from wide"
        )
    source = PostgresSource("shop", database, limits=Limits(memory=80 * 2**20))
    seen, wide = source.discover([Declaration("wide"), Declaration("seen")])
    with source.snapshot([seen, wide]) as snapshot:
        parts = list(snapshot.extract(wide, Everything(), tmp_path, {}))
        with pytest.raises(TerminalError, match=r"public\.seen .*give the source more memory"):
            list(snapshot.extract(seen, Everything(), tmp_path, {}))
    assert len(parts) > 1
    with duckdb.connect() as session:
        query = "SELECT count(DISTINCT id), count(*), count(DISTINCT body), min(length(body))"
        assert session.execute(f"{query} FROM {scan(parts)}").fetchall() == [
            (200, 200, 200, 640000)
        ]


def test_wide_rows_are_read_a_few_at_a_time_each_once(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"create table wide (id int primary key, body text)")
        connection.execute(b"alter table wide alter body set storage external")
        rows = "select g, repeat('x', 2000000) from generate_series"
        connection.execute(f"insert into wide {rows}(1, 20) g".encode())
        connection.execute(b"delete from wide where id % 5 = 0")
        connection.execute(f"insert into wide {rows}(21, 24) g".encode())
        connection.execute(b"analyze wide")
    source = PostgresSource("shop", database)
    [wide] = source.discover([Declaration("wide")])
    with source.snapshot([wide]) as snapshot:
        pieces = snapshot.pieces(wide, [])
        parts = list(snapshot.extract(wide, pieces[0], tmp_path, {}))
    assert len(pieces) == 1
    assert max(part.rows for part in parts) * 2_000_000 <= HELD
    with duckdb.connect() as session:
        found = session.execute(f"SELECT id FROM {scan(parts)} ORDER BY id").fetchall()
    assert found == [(g,) for g in range(1, 25) if g % 5 or g > 20]


def address(source: Source) -> str:
    assert isinstance(source, PostgresSource)
    return source._given
