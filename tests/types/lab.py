"""One PostgreSQL database and one DuckDB session, between which the tests carry values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psycopg
from psycopg.conninfo import make_conninfo

from repl_pipelines.duck import connect
from repl_pipelines.model.column import Column, Policy
from repl_pipelines.model.sql import literal
from repl_pipelines.proof.canonical import POSTGRES_SETTINGS, duckdb_canonical
from repl_pipelines.proof.checksum import Form, row_text
from repl_pipelines.replicas.types import (
    duckdb_replica_expression,
    postgres_canonical,
    postgres_text_expression,
)
from repl_pipelines.sources.postgres import types

Texts = list[tuple[int, str]]

DELTA = {
    "SMALLINT": "short",
    "INTEGER": "integer",
    "BIGINT": "long",
    "FLOAT": "float",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "VARCHAR": "string",
    "BLOB": "binary",
    "DATE": "date",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
}


@dataclass
class Lab:
    """`server` holds table `t (id, v ...)`; `duck` reads it through DuckDB's scanner as `pg`."""

    server: psycopg.Connection[tuple[object, ...]]
    duck: duckdb.DuckDBPyConnection
    directory: Path

    def table(self, columns: str) -> None:
        """A fresh, empty source table `t`."""
        self.server.execute(
            f"DROP TABLE IF EXISTS public.t; CREATE TABLE public.t ({columns})".encode()
        )

    def fill(self, sql_type: str, values: Sequence[str | None]) -> None:
        """Replace the rows of `t (id, v)`."""
        self.server.execute("TRUNCATE public.t")
        insert = (
            f"INSERT INTO public.t SELECT i, x::{sql_type}"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS u(x, i)"
        )
        self.server.execute(insert.encode(), [list(values)])

    def columns(
        self, policy: Policy = Policy.FAIL, relation: str = "public.t"
    ) -> dict[str, Column]:
        """The columns of a table, as a source describes them."""
        oid = self.server.execute("SELECT %s::regclass::oid::bigint", [relation]).fetchone()
        assert oid is not None
        described = types.describe(self.server, [int(str(oid[0]))])
        return {d.name: types.column_of(d, policy) for d in described[int(str(oid[0]))]}

    def source_texts(self, *forms: Form, relation: str = "public.t") -> Texts:
        """(id, row text) as PostgreSQL computes them."""
        query = f"SELECT id::int, {row_text(forms)} FROM {relation} ORDER BY id"
        return self.server.execute(query.encode()).fetchall()  # type: ignore[return-value]

    def outputs(self) -> list[tuple[object, ...]]:
        """(id, v) as COPY writes them, by the types' output functions and none of our SQL."""
        query = "COPY (SELECT id::int, v FROM public.t ORDER BY id) TO STDOUT"
        with self.server.cursor() as cursor, cursor.copy(query.encode()) as copy:
            copy.set_types(["int4", "text"])
            return list(copy.rows())

    def duck_texts(self, relation: str, *forms: Form) -> Texts:
        """(id, row text) as DuckDB computes them."""
        return self.duck.execute(
            f"SELECT id::INTEGER, {row_text(forms)} FROM {relation} ORDER BY id"
        ).fetchall()

    def extract(self, **expressions: str) -> str:
        """Write `t` to Parquet as a sync does; the SQL relation that reads it."""
        path = self.directory / "t.parquet"
        selected = ", ".join(f'{e} AS "{name}"' for name, e in expressions.items())
        query = literal(f"SELECT id, {selected} FROM public.t")
        self.duck.execute(
            f"COPY (SELECT * FROM postgres_query('pg', {query})) TO '{path}' (COMPRESSION zstd)"
        )
        return f"read_parquet('{path}')"

    def lake_type(self, lake: str) -> str:
        """The type of `v` in a Parquet file, as Delta calls it."""
        [(kind,)] = self.duck.execute(f"SELECT typeof(v) FROM {lake} LIMIT 1").fetchall()
        return DELTA.get(kind) or kind.lower()

    def duckdb_replica(self, lake: str, column: Column) -> Texts:
        """Load a DuckDB replica; its row texts."""
        value = duckdb_replica_expression(column, "v")
        self.duck.execute(f"CREATE OR REPLACE TABLE r AS SELECT id, {value} AS v FROM {lake}")
        [(kind,)] = self.duck.execute(
            "SELECT data_type FROM duckdb_columns() WHERE table_name='r' AND column_name='v'"
        ).fetchall()
        assert kind == column.duckdb_type.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
        return self.duck_texts("r", duckdb_canonical(column))

    def postgres_replica(self, lake: str, column: Column) -> Texts:
        """Load a PostgreSQL replica table `r` through text COPY; its row texts."""
        text = postgres_text_expression(column, "v")
        rows = self.duck.execute(f"SELECT id::INTEGER, {text} FROM {lake}").fetchall()
        create = f"CREATE TABLE public.r (id int, v {column.postgres_type})"
        self.server.execute(f"DROP TABLE IF EXISTS public.r; {create}".encode())
        with self.server.cursor() as cursor, cursor.copy("COPY public.r FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return self.source_texts(postgres_canonical(column), relation="public.r")

    def unequal_bits(self, column: Column) -> list[tuple[object, ...]]:
        """Rows of `t` and `r` whose values PostgreSQL itself would send differently."""
        kind = column.postgres_type
        query = (
            "SELECT id, t.v::text, r.v::text FROM public.t JOIN public.r USING (id)"
            f" WHERE record_send(ROW(t.v::{kind})) <> record_send(ROW(r.v::{kind}))"
        )
        return self.server.execute(query.encode()).fetchall()


def open_lab(dsn: str, directory: Path, setup: str = "") -> Lab:
    """A lab in an empty database."""
    options = " ".join(f"-c {name}={value}" for name, value in POSTGRES_SETTINGS.items())
    address = make_conninfo(dsn, options=options, client_encoding="UTF8")
    server = psycopg.connect(address, autocommit=True)
    server.execute(setup.encode())
    duck = connect(("postgres_scanner",))
    duck.execute(f"ATTACH {literal(address)} AS pg (TYPE postgres, READ_ONLY)")
    return Lab(server, duck, directory)
