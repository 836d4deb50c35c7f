"""What a PostgreSQL replica says of itself: sync number and tables, written with the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from repl_pipelines.errors import ForeignReplica
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.news import Held, News, State
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
    row: Any = send(
        connection,
        # An earlier version's has no column `published`.
        "SELECT replication, sync, (to_jsonb(s) ->> 'published')::timestamptz"
        f" FROM {STATE_SCHEMA}.state s",
    ).fetchone()
    owner, sync, published = row or ("", 0, None)
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
    return State(sync, {TableName(s, t): Held(*rest) for s, t, *rest in tables}, published)


def write_state(
    connection: Connection,
    replication: str,
    now: News | State,
    run: str,
    records: Sequence[Record],
) -> None:
    """Record where the replica and its tables stand; part of their transaction."""
    _create(connection)
    send(
        connection,
        f"INSERT INTO {STATE_SCHEMA}.state (replication, sync, published, run, applied_at)"
        " VALUES (%s, %s, %s, %s, clock_timestamp()) ON CONFLICT (replication) DO UPDATE SET"
        " sync = excluded.sync, published = excluded.published, run = excluded.run,"
        " applied_at = excluded.applied_at",
        [replication, now.sync, now.published, run],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            b"INSERT INTO _repl_pipelines.tables VALUES (%s, %s, %s, %s, %s)"
            b" ON CONFLICT (schema_name, table_name) DO UPDATE SET sync = excluded.sync,"
            b" shape = excluded.shape, rows = excluded.rows",
            [(r.name.schema, r.name.name, now.sync, r.shape, r.rows) for r in records],
        )


def _create(connection: Connection) -> None:
    """Make the state's tables where they are not there, or are an earlier version's."""
    create_schema(connection, STATE_SCHEMA)
    send(
        connection,
        f"CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.state (replication text PRIMARY KEY,"
        " sync bigint NOT NULL, run text NOT NULL, applied_at timestamptz NOT NULL,"
        " published timestamptz)",
    )
    state = f"'{STATE_SCHEMA}.state'::regclass"
    known = f"SELECT 1 FROM pg_attribute WHERE attrelid = {state} AND attname = 'published'"
    if not first(connection, known):
        send(connection, f"ALTER TABLE {STATE_SCHEMA}.state ADD COLUMN published timestamptz")
    send(
        connection,
        f"CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.tables (schema_name text, table_name text,"
        " sync bigint NOT NULL, shape text NOT NULL, rows bigint NOT NULL,"
        " PRIMARY KEY (schema_name, table_name))",
    )


def create_schema(connection: Connection, schema: str) -> None:
    """Create it unless it is there; IF NOT EXISTS asks for the right even where it is not used."""
    if not first(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]):
        send(connection, f"CREATE SCHEMA {quote(schema)}")
