"""What a PostgreSQL replica says of itself: sync number and tables, written with the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from repl_pipelines.errors import ForeignReplica
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.news import Held, State
from repl_pipelines.replicas.postgres_session import Connection, first, send

STATE_SCHEMA = "_repl_pipelines"


@dataclass(frozen=True)
class Record:
    """What is remembered of one table."""

    name: TableName
    shape: str
    rows: int


def read_state(connection: Connection, replication: str, replica: str) -> State:
    """The replica's state; a database without one stands at sync 0. Raises ForeignReplica."""
    if first(connection, f"SELECT to_regclass('{STATE_SCHEMA}.state')") is None:
        return State(0, {})
    row: Any = send(connection, f"SELECT replication, sync FROM {STATE_SCHEMA}.state").fetchone()
    owner, sync = row or ("", 0)
    if owner != replication:
        raise ForeignReplica(
            f"The database of replica {replica} belongs to replication {owner!r},"
            f" not to {replication!r}.",
            "Give this replication's replica a database of its own.",
        )
    tables: list[Any] = send(
        connection,
        "SELECT t.schema_name, t.table_name, t.sync, t.shape, t.rows"
        f" FROM {STATE_SCHEMA}.tables t JOIN pg_class c ON c.relname = t.table_name"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schema_name"
        " WHERE c.relkind = 'r'",
    ).fetchall()
    return State(sync, {TableName(s, t): Held(*rest) for s, t, *rest in tables})


def write_state(
    connection: Connection,
    replication: str,
    sync: int,
    run: str,
    records: Sequence[Record],
) -> None:
    """Record `sync` for the replica and for its tables; part of their transaction."""
    create_schema(connection, STATE_SCHEMA)
    send(
        connection,
        f"CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.state (replication text PRIMARY KEY,"
        " sync bigint NOT NULL, run text NOT NULL, applied_at timestamptz NOT NULL)",
    )
    send(
        connection,
        f"CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.tables (schema_name text, table_name text,"
        " sync bigint NOT NULL, shape text NOT NULL, rows bigint NOT NULL,"
        " PRIMARY KEY (schema_name, table_name))",
    )
    send(
        connection,
        f"INSERT INTO {STATE_SCHEMA}.state VALUES (%s, %s, %s, clock_timestamp())"
        " ON CONFLICT (replication) DO UPDATE SET sync = excluded.sync, run = excluded.run,"
        " applied_at = excluded.applied_at",
        [replication, sync, run],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            b"INSERT INTO _repl_pipelines.tables VALUES (%s, %s, %s, %s, %s)"
            b" ON CONFLICT (schema_name, table_name) DO UPDATE SET sync = excluded.sync,"
            b" shape = excluded.shape, rows = excluded.rows",
            [(r.name.schema, r.name.name, sync, r.shape, r.rows) for r in records],
        )


def create_schema(connection: Connection, schema: str) -> None:
    """Create it unless it is there; IF NOT EXISTS asks for the right even where it is not used."""
    if not first(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]):
        send(connection, f"CREATE SCHEMA {quote(schema)}")
