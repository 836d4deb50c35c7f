"""A PostgreSQL replica's table written anew, with nothing in its files of rows that are gone."""

import re
import time

import psycopg

from repl_pipelines.errors import ReplicaUnavailable
from repl_pipelines.model.table import TableName
from repl_pipelines.replicas.postgres_merge import qualified
from repl_pipelines.replicas.postgres_session import Connection, locked, send

_KEPT = re.compile(r"\d+")  # the first number that VACUUM says in detail, in any language
_PAUSE = 0.5  # seconds between two looks at transactions that end


def rewrite(connection: Connection, name: TableName, replica: str, patience: float) -> None:
    """Write table and indexes into new files, and gather its statistics again.

    An ordinary VACUUM only marks the place of a row as free. Rows that an open transaction may
    still see are kept, so wait for these. Raises ReplicaUnavailable after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while kept := _vacuum(connection, name, replica):
        if time.monotonic() > deadline:
            raise ReplicaUnavailable(
                f"Replica {replica}: open transactions of others still see {kept} deleted rows of"
                f" {name}, which stay in its files for them.",
                "End them (pg_stat_activity: the oldest xact_start, or backend_xmin; also"
                " pg_prepared_xacts, replication slots and standbys), and erase again.",
            )
        time.sleep(_PAUSE)


def _vacuum(connection: Connection, name: TableName, replica: str) -> int:
    """How many rows had to be kept that are deleted."""
    kept: list[int] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if found := _KEPT.search(notice.message_detail or ""):
            kept.append(int(found[0]))

    connection.add_notice_handler(hear)
    try:
        send(connection, f"VACUUM (FULL, ANALYZE, VERBOSE) {qualified(name)}")
    except psycopg.errors.LockNotAvailable as error:
        raise locked(connection, qualified(name), replica) from error
    finally:
        connection.remove_notice_handler(hear)
    return kept[0] if kept else 0
