"""Rows as Python values, from the source and from each copy, by queries that the product lacks."""

import re
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg

from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table

Rows = list[tuple]


def postgres_rows(connection: psycopg.Connection, table: Table) -> Rows:
    """The rows of the table of this name, in the source or in a PostgreSQL replica."""
    columns = ", ".join(map(_in_postgres, table.columns))
    name = f"{quote(table.name.schema)}.{quote(table.name.name)}"
    query = f"SELECT {columns or 'true'} FROM {name}"
    return _sorted(connection.execute(query.encode()).fetchall())


def lake_rows(lake: Lake, table: Table) -> Rows:
    with lake.session() as session:
        return _duckdb_rows(session, f"({lake.table(table.name).rows_sql(table)})", table)


def duckdb_rows(file: Path, table: Table) -> Rows:
    with duckdb.connect(str(file), read_only=True) as session:
        name = f"{quote(table.name.schema)}.{quote(table.name.name)}"
        return _duckdb_rows(session, name, table)


def _duckdb_rows(session: duckdb.DuckDBPyConnection, relation: str, table: Table) -> Rows:
    columns = ", ".join(map(_in_duckdb, table.columns)) or "true"
    return _sorted(session.execute(f"SELECT {columns} FROM {relation} AS t").fetchall())


def _in_postgres(column: Column) -> str:
    name = quote(column.name)
    if column.family is Family.TIMESTAMPTZ:
        micros = f"(extract(epoch FROM {name}) * 1000000)::bigint::text"
        return f"CASE WHEN isfinite({name}) THEN {micros} ELSE {name}::text END"
    if column.family is Family.TEXT:
        padded = re.fullmatch(r"character\(\d+\)", column.source_type)
        return f"textin(bpcharout({name}))" if padded else f"{name}::text"
    return name


def _in_duckdb(column: Column) -> str:
    name = quote(column.name)
    if column.family is Family.TIMESTAMPTZ:
        micros = f"epoch_us({name})::VARCHAR"
        return f"CASE WHEN isfinite({name}) THEN {micros} ELSE {name}::VARCHAR END"
    return f"{name}::VARCHAR" if column.family is Family.TEXT else name


def _sorted(rows: Rows) -> Rows:
    return sorted((tuple(map(_exact, row)) for row in rows), key=repr)


def _exact(value: object) -> object:
    """NaN equals itself here, -0 is not 0, and 1.0 is not 1.00."""
    if isinstance(value, float):
        return value.hex()
    return str(value) if isinstance(value, Decimal) else value
