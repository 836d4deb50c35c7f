"""Sessions of a PostgreSQL replica: their settings, their lock, and their errors."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from repl_pipelines.errors import (
    DeclarationError,
    GrantMissing,
    ReplicaRefused,
    ReplicaUnavailable,
)
from repl_pipelines.model.sql import quote
from repl_pipelines.proof.canonical import POSTGRES_SETTINGS
from repl_pipelines.sources.postgres.trust import distrust

Connection = psycopg.Connection[tuple[object, ...]]
Cursor = psycopg.Cursor[tuple[object, ...]]

# One replica a database: the same lock, whatever the replication.
_LOCK = int.from_bytes(b"rplreplc", "big")


def send(connection: Connection, statement: str, values: Sequence[object] | None = None) -> Cursor:
    """Execute SQL that we have put together ourselves."""
    return connection.execute(statement.encode(), values)


def first(connection: Connection, statement: str, values: Sequence[object] | None = None) -> object:
    """The first field of the first row; None without rows."""
    row = send(connection, statement, values).fetchone()
    return row[0] if row else None


@contextmanager
def connect(dsn: str, replica: str, application: str, patience: float) -> Generator[Connection]:
    """A session under which the lake's text means what it says; its errors are the engine's."""
    with (
        _translated(replica, dsn),
        psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=10,
            application_name=application[:63],
            client_encoding="utf8",
        ) as connection,
    ):
        if connection.info.parameter_status("server_encoding") != "UTF8":
            raise DeclarationError(
                f"The database of replica {replica} is not encoded in UTF-8.",
                "Create it with ENCODING 'UTF8' TEMPLATE template0.",
            )
        settings = POSTGRES_SETTINGS | {
            "default_transaction_isolation": "read committed",
            "client_connection_check_interval": "5s",  # a dead client frees the lock
            "lock_timeout": str(int(patience * 1000)),
        }
        for setting, value in settings.items():
            send(connection, "SELECT set_config(%s, %s, false)", [setting, value])
        yield connection


def lock(connection: Connection, replica: str) -> None:
    """Keep other applies out until this session ends, however it ends."""
    try:
        send(connection, "SELECT pg_advisory_lock(%s)", [_LOCK])
    except psycopg.errors.LockNotAvailable as error:
        holder = first(
            connection,
            "SELECT format('server process %%s (%%s)', a.pid, a.application_name)"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (l.classid::bigint << 32) + l.objid::bigint = %s",
            [_LOCK],
        )
        raise ReplicaUnavailable(
            f"Another apply is writing to replica {replica}: {holder or 'it has just ended'}.",
            "Wait for it to end, then apply again.",
        ) from error


def locked(connection: Connection, table: str, replica: str) -> ReplicaUnavailable:
    """The error for a lock on `table` (SQL) that was not to be had: it names who has some."""
    holders = first(
        connection,
        "SELECT string_agg(DISTINCT format('server process %%s (%%s, %%s)', a.pid, a.usename,"
        " coalesce(nullif(a.application_name, ''), a.backend_type)), ', ')"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.relation = to_regclass(%s) AND l.granted AND l.pid <> pg_backend_pid()",
        [table],
    )
    return ReplicaUnavailable(
        f"A lock on {table} of replica {replica} was not to be had in time; nothing was applied."
        f" Locks there: {holders or 'none any more'}.",
        "Wait until they end, or end them with pg_terminate_backend(); then apply again.",
    )


@contextmanager
def _translated(replica: str, dsn: str) -> Generator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise GrantMissing(
            f"The role of replica {replica} may not do what a sync needs: {_text(error)}.",
            f"GRANT CREATE, TEMPORARY ON DATABASE {_quoted(dsn, 'dbname')} TO"
            f" {_quoted(dsn, 'user')}; the role must own the replica's tables and schemas.",
        ) from error
    except psycopg.IntegrityError as error:
        raise _refused(replica, error) from error
    except psycopg.OperationalError as error:
        text = _text(error)
        if untrusted := distrust(f"Replica {replica}", dsn, text):
            raise untrusted from error
        if re.search(r'authentication failed|(role|database) ".*" does not exist|no pg_hba', text):
            raise DeclarationError(
                f"Replica {replica} refuses the connection: {text}.",
                "Correct user, password or database of the replica.",
            ) from error
        raise ReplicaUnavailable(
            f"Replica {replica} cannot be used now: {text}.", "Nothing was applied; try again."
        ) from error


def _quoted(dsn: str, part: str) -> str:
    return quote(str(conninfo_to_dict(dsn).get(part) or "..."))


def _refused(replica: str, error: psycopg.IntegrityError) -> ReplicaRefused:
    """The tables we make refuse no row of a source: somebody has added a rule."""
    about = error.diag
    table = f"{quote(about.schema_name or '')}.{quote(about.table_name or '')}"
    if about.constraint_name:
        rule = f"constraint or unique index {about.constraint_name}"
        name = quote(about.constraint_name)
        remedy = f"ALTER TABLE {table} DROP CONSTRAINT {name}; (or DROP INDEX)"
    else:
        rule = f"NOT NULL of column {about.column_name}"
        column = quote(about.column_name or "")
        remedy = f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL;"
    return ReplicaRefused(
        f"Replica {replica}: {rule} of table {table} refuses rows that the source has; nothing was"
        f" applied: {_text(error)}.",
        f"A replica takes every row of its source: {remedy} then apply again.",
    )


def _text(error: psycopg.Error) -> str:
    """The server's message in one line, without the context, which may quote values."""
    return (error.diag.message_primary or str(error)).strip().replace("\n", " ").rstrip(".")
