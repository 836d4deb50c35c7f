"""What a DuckDB replica's file says of itself: sync number and tables, written with the rows."""

from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb

from repl_pipelines.errors import ForeignReplica
from repl_pipelines.model.sql import literal, quote
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.news import Held, News, State

STATE_SCHEMA = "_repl_pipelines"
# The name under which a session attaches the file that it reads or writes.
CATALOG = "replica"


def read_state(session: duckdb.DuckDBPyConnection, replication: str, place: str) -> State:
    """The attached file's state; an empty file stands at sync 0. Raises ForeignReplica."""
    existing = set(
        session.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ?", [CATALOG]
        ).fetchall()
    )
    if not existing:
        return State(0, {})
    schema = f"{CATALOG}.{quote(STATE_SCHEMA)}"
    if (STATE_SCHEMA, "state") not in existing:
        raise ForeignReplica(
            f"{place} holds tables, but no state of a replication.",
            "Give the replica another name or directory; this file is somebody else's.",
        )
    row = session.execute(f"SELECT * FROM {schema}.state").fetchone()
    names = [column[0] for column in session.description or ()]
    state = dict(zip(names, row or (), strict=False))
    owner = state.get("replication", "")
    if owner != replication:
        raise ForeignReplica(
            f"{place} belongs to replication {owner!r}, not to {replication!r}.",
            "Give this replication's replica another name or directory.",
        )
    tables = session.execute(
        f"SELECT schema_name, table_name, sync, shape, rows FROM {schema}.tables"
    ).fetchall()
    held = {TableName(s, t): Held(*rest) for s, t, *rest in tables if (s, t) in existing}
    # An earlier version's has no column `published`.
    return State(state.get("sync", 0), held, state.get("published"))


def write_state(
    session: duckdb.DuckDBPyConnection,
    replication: str,
    now: News | State,
    run: str,
    records: Mapping[TableName, Held],
) -> None:
    """Record where the replica stands and what it now holds; part of the rows' transaction."""
    schema = f"{CATALOG}.{quote(STATE_SCHEMA)}"
    session.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    # Literals: DuckDB looks for pandas anew at each parameter, which takes a millisecond.
    session.execute(
        f"CREATE OR REPLACE TABLE {schema}.state AS SELECT {literal(replication)} AS replication,"
        f" {now.sync}::BIGINT AS sync, {literal(run)} AS run,"
        f" {literal(datetime.now(UTC))} AS applied_at,"
        f" {literal(now.published)}::TIMESTAMPTZ AS published"
    )
    session.execute(
        f"CREATE TABLE IF NOT EXISTS {schema}.tables (schema_name VARCHAR, table_name VARCHAR,"
        " sync BIGINT, shape VARCHAR, rows BIGINT)"
    )
    if records:
        _record(session, f"{schema}.tables", records)


def _record(
    session: duckdb.DuckDBPyConnection, target: str, records: Mapping[TableName, Held]
) -> None:
    rows = ", ".join(
        f"({literal(name.schema)}, {literal(name.name)}, {held.sync}, {literal(held.shape)},"
        f" {held.rows})"
        for name, held in records.items()
    )
    # A table renamed by case only has replaced the one before it.
    session.execute(
        f"DELETE FROM {target} AS old USING (VALUES {rows}) AS new(s, t, n, h, r)"
        " WHERE lower(schema_name) = lower(new.s) AND lower(table_name) = lower(new.t)"
    )
    session.execute(f"INSERT INTO {target} VALUES {rows}")
