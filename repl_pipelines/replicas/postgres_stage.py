r"""Rows on their way from the lake into PostgreSQL: COPY text, made by DuckDB, streamed in chunks.

The text format is used because PostgreSQL before 18 takes a line `\.` inside a quoted CSV field
for the end of the data.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import duckdb
import psycopg

from repl_pipelines.errors import LakeDamaged, ValueNotRepresentable
from repl_pipelines.lake import current
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.column import Column, Family
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.replicas.contract import Correction
from repl_pipelines.replicas.corrections import lake_rows
from repl_pipelines.replicas.news import Step, Way
from repl_pipelines.replicas.postgres_session import Connection, send
from repl_pipelines.replicas.types import postgres_text_expression

_ROWS = 512  # fetched at once, at most
_CHARACTERS = 4 * 2**20  # of lines fetched at once, about: those of wide rows come one by one
_NEEDS_ESCAPING = (Family.TEXT, Family.BYTES)


@dataclass(frozen=True)
class Stage:
    """A temporary table in the replica's own types with a first column `_rp_op`: r, u or d."""

    name: str
    rows: int


def stage_rows(
    connection: Connection,
    session: duckdb.DuckDBPyConnection,
    lake: Lake,
    one: Correction,
) -> Stage:
    """Copy the rows of a correction from the lake."""
    name = _create(connection, one.table, 0)
    with lake.table(one.table.name).reading():
        source = f"SELECT 'r' AS _rp_op, * FROM ({lake_rows(lake, session, one)}) AS lake_rows"
        return Stage(name, _stream(connection, session, one.table, name, source))


def fill(
    connection: Connection,
    session: duckdb.DuckDBPyConnection,
    lake: Lake,
    step: Step,
    number: int,
) -> tuple[Step, Stage | None]:
    """Copy what `step` asks of the lake; it becomes a reload where change files are gone."""
    if step.way is Way.NOTHING:
        return step, None
    name = _create(connection, step.table, number)
    try:
        rows = _copy(connection, session, lake, step, name)
    except LakeDamaged:
        if step.way is not Way.CHANGES:
            raise
        step = replace(step, way=Way.RELOAD)  # vacuumed; the rows themselves are still there
        send(connection, f"TRUNCATE {name}")
        rows = _copy(connection, session, lake, step, name)
    send(connection, f"ANALYZE {name}")
    return step, Stage(name, rows)


def _create(connection: Connection, table: Table, number: int) -> str:
    columns = "".join(f", {quote(c.name)} {c.postgres_type}" for c in table.columns)
    send(connection, f"CREATE TEMPORARY TABLE stage_{number} (_rp_op text{columns})")
    return f"pg_temp.stage_{number}"


def _copy(
    connection: Connection,
    session: duckdb.DuckDBPyConnection,
    lake: Lake,
    step: Step,
    name: str,
) -> int:
    with lake.table(step.table.name).reading():
        sources = _sources(lake, step)
        return sum(_stream(connection, session, step.table, name, sql) for sql in sources)


def _sources(lake: Lake, step: Step) -> Iterator[str]:
    """SQL over the lake, each giving `_rp_op` and the user columns."""
    table = lake.table(step.table.name)
    if step.way is Way.CHANGES:
        for condition in current.slices(step.table, step.changed):
            yield table.changes_sql(step.table, step.files, condition)
        return
    for key in step.partitions if step.way is Way.PARTITIONS else (None,):
        rows = table.rows_sql(step.table, version=step.version, partition=key)
        yield f"SELECT 'r' AS _rp_op, * FROM ({rows}) AS lake_rows"


def _stream(
    connection: Connection,
    session: duckdb.DuckDBPyConnection,
    table: Table,
    name: str,
    source: str,
) -> int:
    fields = ", ".join(["_rp_op", *(_field(column) for column in table.columns)])
    lines = f"SELECT concat_ws(chr(9), {fields}) || chr(10) FROM ({source}) AS source_rows"
    result = session.execute(lines)
    rows, together = 0, 1
    try:
        with connection.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN".encode()) as copy:
            while chunk := result.fetchmany(together):
                text = "".join(line for (line,) in chunk)
                copy.write(text)
                rows += len(chunk)
                together = max(1, min(_ROWS, _CHARACTERS * len(chunk) // len(text)))
    except psycopg.DataError as error:
        # The message and its context quote the value; the line's end names the column.
        column = (error.diag.context or "").partition(", column ")[2].partition(":")[0]
        raise ValueNotRepresentable(
            f"{table.name}, column {column or '?'}: a value of the lake is not one of the"
            f" replica's type (SQLSTATE {error.sqlstate}).",
            "Give the column the policy `text`.",
        ) from None
    return rows


def _field(column: Column) -> str:
    """One column as a field of COPY's text format."""
    text = postgres_text_expression(column, quote(column.name))
    if column.family in _NEEDS_ESCAPING:
        for raw, escaped in (("92", r"\\"), ("9", r"\t"), ("10", r"\n"), ("13", r"\r")):
            text = f"replace({text}, chr({raw}), '{escaped}')"
    return rf"coalesce({text}, '\N')"
