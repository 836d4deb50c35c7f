"""How one table of a DuckDB replica is moved forward: staged, then merged in the transaction."""

import hashlib
from dataclasses import replace

import duckdb

from repl_pipelines.errors import LakeDamaged
from repl_pipelines.lake import current
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.partitions import partition_predicate
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Table
from repl_pipelines.proof.relation import duckdb_relation
from repl_pipelines.replicas.contract import Correction
from repl_pipelines.replicas.corrections import lake_rows
from repl_pipelines.replicas.duckdb_state import CATALOG
from repl_pipelines.replicas.news import Step, Way
from repl_pipelines.replicas.types import duckdb_replica_expression

# DuckDB has no table without columns: one NULL per row stands for the row.
NO_COLUMNS = "_rp_no_columns"


def shape(table: Table) -> str:
    """Changes whenever the rows a replica holds can no longer be rows of this table."""
    types = [column.duckdb_type for column in table.columns]
    return hashlib.sha256(repr((table.fingerprint, types)).encode()).hexdigest()


def stage(session: duckdb.DuckDBPyConnection, lake: Lake, step: Step, number: int) -> Step:
    """Fetch the changes of a step; the step itself, or a reload where they are gone."""
    if step.way is not Way.CHANGES:
        return step
    table = lake.table(step.table.name)
    into = f"CREATE TEMP TABLE {_stage(number)} AS"
    try:
        with table.reading():
            for condition in current.slices(step.table, step.changed):
                changes = table.changes_sql(step.table, step.files, condition)
                rows = f"SELECT {_columns(step.table)}, _rp_op FROM ({changes}) AS lake_rows"
                session.execute(f"{into} {rows}")
                into = f"INSERT INTO {_stage(number)}"
    except LakeDamaged:  # vacuumed; the rows themselves are still there
        return replace(step, way=Way.RELOAD)
    return step


def merge(
    session: duckdb.DuckDBPyConnection, lake: Lake, step: Step, number: int, rows: int
) -> int:
    """Carry out one step on a table that holds `rows` rows; the number of rows it holds then."""
    if step.way is Way.NOTHING:
        return rows
    if step.way is Way.RELOAD:
        _create(session, step.table)
        return _insert(session, lake, step, None)
    if step.way is Way.CHANGES:
        return rows + _merge_changes(session, step.table, number)
    predicate = partition_predicate("duckdb", step.table, step.partitions)
    rows -= _count(session, f"DELETE FROM {target(step.table)} WHERE {predicate}")
    return rows + sum(_insert(session, lake, step, key) for key in step.partitions)


def _merge_changes(session: duckdb.DuckDBPyConnection, table: Table, number: int) -> int:
    """Delete every changed key, insert what it became; by how much the table has grown."""
    same = " AND ".join(f"c.{quote(k)} = t.{quote(k)}" for k in table.key)
    deleted = _count(
        session,
        f"DELETE FROM {target(table)} AS t"
        f" WHERE EXISTS (SELECT 1 FROM {_stage(number)} AS c WHERE {same})",
    )
    names = ", ".join(quote(column.name) for column in table.columns)
    inserted = _count(
        session,
        f"INSERT INTO {target(table)} ({names})"
        f" SELECT {names} FROM {_stage(number)} WHERE _rp_op <> 'd'",
    )
    session.execute(f"DROP TABLE {_stage(number)}")
    return inserted - deleted


def correct(session: duckdb.DuckDBPyConnection, lake: Lake, one: Correction) -> tuple[int, int]:
    """Replace the rows that a correction names: rows inserted, and rows the table holds then."""
    relation = duckdb_relation(session, one.table, target(one.table))
    rows = lake_rows(lake, session, one)
    wrong = "true" if one.digests is None else relation.among(one.digests)
    where = f"{relation.where(one.selection)} AND {wrong}"
    deleted = _count(session, f"DELETE FROM {target(one.table)} WHERE {where}")
    with lake.table(one.table.name).reading():
        inserted = _count(
            session,
            f"INSERT INTO {target(one.table)} SELECT {_columns(one.table)} FROM ({rows}) AS rows",
        )
    [(total,)] = session.execute(f"SELECT count(*) FROM {target(one.table)}").fetchall()
    return max(inserted, deleted), int(total)


def _create(session: duckdb.DuckDBPyConnection, table: Table) -> None:
    columns = [f"{quote(column.name)} {column.duckdb_type}" for column in table.columns]
    session.execute(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.{quote(table.name.schema)}")
    session.execute(
        f"CREATE OR REPLACE TABLE {target(table)}"
        f" ({', '.join(columns or [f'{NO_COLUMNS} BOOLEAN'])})"
    )


def _insert(
    session: duckdb.DuckDBPyConnection, lake: Lake, step: Step, partition: str | None
) -> int:
    table = lake.table(step.table.name)
    with table.reading():
        rows = table.rows_sql(step.table, version=step.version, partition=partition)
        return _count(
            session,
            f"INSERT INTO {target(step.table)}"
            f" SELECT {_columns(step.table)} FROM ({rows}) AS lake_rows",
        )


def _columns(table: Table) -> str:
    """The table's columns, from the lake's types to the replica's."""
    columns = (
        f"{duckdb_replica_expression(column, quote(column.name))} AS {quote(column.name)}"
        for column in table.columns
    )
    return ", ".join(columns) or f"NULL::BOOLEAN AS {NO_COLUMNS}"


def _stage(number: int) -> str:
    return f"temp.main._rp_stage_{number}"


def target(table: Table) -> str:
    """The table in the attached file, as SQL."""
    return f"{CATALOG}.{quote(table.name.schema)}.{quote(table.name.name)}"


def _count(session: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = session.execute(statement).fetchone()
    assert row
    return int(row[0])
