"""Handing a PostgreSQL replica over to another name, and removing it, each in one transaction."""

from collections.abc import Iterator
from typing import Any

import psycopg

from repl_pipelines.errors import ReplicaRefused
from repl_pipelines.model.sql import quote
from repl_pipelines.model.trace import Trace
from repl_pipelines.replicas.news import State
from repl_pipelines.replicas.postgres_session import Connection, first, send
from repl_pipelines.replicas.postgres_state import STATE_SCHEMA, read_state

# Nothing but the replica's own tables is in it. `public` is every database's own.
_LEFT_EMPTY = """
SELECT n.nspname::text FROM pg_namespace n
WHERE n.nspname = ANY(%s) AND n.nspname <> 'public' AND pg_has_role(n.nspowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid
                  AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                  AND (n.nspname, c.relname) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[])))
  AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid)
ORDER BY 1
"""


def traces(connection: Connection, state: State) -> Iterator[Trace]:
    """Tables, and schemas that are empty without them; names as SQL has them."""
    if not state.sync:
        return
    for name in state.tables:
        table = f"{quote(name.schema)}.{quote(name.name)}"
        size: Any = first(connection, "SELECT pg_total_relation_size(%s::regclass)", [table])
        yield Trace("table", table, size)
    names = [[n.schema for n in state.tables], [n.name for n in state.tables]]
    schemas: list[Any] = send(connection, _LEFT_EMPTY, [names[0], *names]).fetchall()
    yield from (Trace("schema", quote(schema)) for (schema,) in schemas)
    yield Trace("schema", quote(STATE_SCHEMA), count=2)


def rename(connection: Connection, before: str, after: str, replica: str) -> None:
    """Raises ForeignReplica, and nothing is changed."""
    with connection.transaction():
        if first(connection, f"SELECT to_regclass('{STATE_SCHEMA}.state')") is None:
            return
        send(
            connection,
            f"UPDATE {STATE_SCHEMA}.state SET replication = %s WHERE replication = %s",
            [after, before],
        )
        read_state(connection, after, replica)


def remove(connection: Connection, state: State, replica: str) -> None:
    """Drop all of `traces`, or nothing. Raises ReplicaRefused."""
    with connection.transaction():
        for trace in list(traces(connection, state)):
            # Only what is in the way of others may not go unseen: never CASCADE, but for our own.
            own = " CASCADE" if trace.name == quote(STATE_SCHEMA) else ""
            try:
                send(connection, f"DROP {trace.kind.upper()} {trace.name}{own}")
            except psycopg.errors.DependentObjectsStillExist as error:
                raise ReplicaRefused(
                    f"Replica {replica}: {trace.kind} {trace.name} is needed by something that is"
                    f" not the replica's: {error.diag.message_detail}. Nothing was removed.",
                    "Drop that first, then try again.",
                ) from error
