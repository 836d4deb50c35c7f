"""Connections to PostgreSQL: the session settings of every one, and what its errors mean."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from repl_pipelines.errors import (
    GrantMissing,
    ReplicationError,
    SourceUnavailable,
    StatementTimeout,
)
from repl_pipelines.proof.canonical import POSTGRES_SETTINGS
from repl_pipelines.sources.postgres.trust import distrust

Row = tuple[object, ...]
Connection = psycopg.Connection[Row]


@dataclass(frozen=True)
class Protection:
    """What a sync may cost the source.

    workers:           connections that read at once, beside one that holds the snapshot
    statement_timeout: seconds for one statement
    lock_timeout:      seconds to wait for a lock (DDL in progress)
    chunk:             bytes of a table read by one statement
    retained_warn:     bytes of log kept for mode log from which the check warns
    retained_limit:    bytes of log from which the slot is dropped rather than the disk filled
    max_load:          statements of others at work, beyond which scans pause; None: any number
    max_lag:           bytes that a replica may be behind, beyond which scans pause; None: any
    max_proof:         seconds for which a proof may hold a snapshot after its sync
    """

    workers: int = 2
    statement_timeout: int = 3600
    lock_timeout: int = 30
    chunk: int = 256 * 2**20
    retained_warn: int = 2**30
    retained_limit: int | None = None
    max_load: int | None = None
    max_lag: int | None = None
    max_proof: int = 3600


# Row-level security raises, never filters; nothing is written; parallel plans stay off the server.
_SETTINGS = POSTGRES_SETTINGS | {
    "row_security": "off",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "0",
    "max_parallel_workers_per_gather": "0",
}


def session_dsn(
    dsn: str, protection: Protection, application: str, more: Mapping[str, str] | None = None
) -> str:
    """`dsn` with the session settings that every connection to the source uses, and `more`."""
    timeouts = {
        "statement_timeout": f"{protection.statement_timeout}s",
        "lock_timeout": f"{protection.lock_timeout}s",
    }
    given = conninfo_to_dict(dsn)
    settings = {**_SETTINGS, **timeouts, **(more or {})}
    options = [f"-c {n}={v.replace(' ', chr(92) + ' ')}" for n, v in settings.items()]
    ours = {
        "client_encoding": "UTF8",
        "application_name": application[:63],
        "options": " ".join([str(given.get("options") or ""), *options]).strip(),
    }
    return make_conninfo("", **{"connect_timeout": 15, "keepalives_idle": 30, **given, **ours})


def connect(dsn: str, name: str) -> Connection:
    """A connection in autocommit mode.

    Raises SourceUnavailable, ServerNotTrusted, GrantMissing naming the source and the remedy.
    """
    try:
        return psycopg.connect(dsn, autocommit=True)
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())
        where = describe(dsn)
        if "password authentication" in text or "no password supplied" in text:
            raise GrantMissing(
                f"Source {name!r} ({where}) refused the password.",
                "Set the user and password of its resource (an EnvVar) and try again.",
            ) from error
        if untrusted := distrust(f"Source {name!r}", dsn, text):
            raise untrusted from error
        if "does not exist" in text:
            raise GrantMissing(
                f"Source {name!r} ({where}): {text}", "Correct the dbname or user of its resource."
            ) from error
        raise SourceUnavailable(
            f"Source {name!r} ({where}) cannot be reached: {text}",
            "Check host, port, pg_hba.conf and max_connections.",
        ) from error


def describe(dsn: str) -> str:
    """Host, port, database and user of a DSN: what may be shown."""
    parts = conninfo_to_dict(dsn)
    return " ".join(f"{k}={parts[k]}" for k in ("host", "port", "dbname", "user") if k in parts)


@contextmanager
def source_errors(name: str, doing: str) -> Iterator[None]:
    """Turn a driver's error in the block into one of ours; `doing` says what was attempted."""
    try:
        yield
    except ReplicationError:
        raise
    except psycopg.errors.InsufficientPrivilege as error:
        raise GrantMissing(
            f"Source {name!r}, {doing}: {_first_line(error)}.",
            "Grant the role SELECT on the table and USAGE on its schema, "
            "and BYPASSRLS where row-level security is on.",
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise SourceUnavailable(
            f"Source {name!r}, {doing}: a lock was not granted within the lock timeout.",
            "Wait until the DDL that holds it has ended.",
        ) from error
    except psycopg.errors.QueryCanceled as error:
        raise StatementTimeout(
            f"Source {name!r}, {doing}: {_first_line(error)}.",
            "Raise the source's statement_timeout setting or lower `chunk`.",
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise SourceUnavailable(
            f"Source {name!r}, {doing}: the connection was lost ({_first_line(error)}).",
            "The next sync starts again from the last published position.",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
