"""A standby's view of a source's tables: exactly the commits up to a position of its log.

On a standby a transaction becomes visible when the record of its commit is replayed. So if all that
the standby had received was replayed before a snapshot was taken, and after it nothing more has
been received, the snapshot shows the commits up to that position, and no other. A snapshot cannot
be exported during recovery: one connection reads. Its name as text would be wrong there, too: it
leaves out what was in progress.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from repl_pipelines.errors import (
    DeclarationError,
    ReplicationError,
    SourceUnavailable,
    TerminalError,
)
from repl_pipelines.model.coverage import Axis
from repl_pipelines.model.figures import Figures
from repl_pipelines.model.position import Position
from repl_pipelines.model.selection import Selection
from repl_pipelines.model.table import Table
from repl_pipelines.sources.contract import Pace
from repl_pipelines.sources.postgres import unchanged
from repl_pipelines.sources.postgres.connection import Connection, Protection, source_errors
from repl_pipelines.sources.postgres.log.anchor import lsn_text
from repl_pipelines.sources.postgres.measuring import Measuring
from repl_pipelines.sources.postgres.strain import watcher

PATIENCE = 60.0  # seconds for a standby to be caught up, for a moment
_PAUSE = 0.05
_SYSTEM = "select system_identifier::text from pg_control_system()"
_TIMELINE = "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
_RECEIVER = """
select pg_is_in_recovery(), received_tli, quote_ident(current_user)
from (select) as here left join pg_stat_wal_receiver on true
"""
_REPLAYED = "select (pg_last_wal_replay_lsn() - '0/0')::bigint"
# The snapshot is taken before the functions are asked.
_RECEIVED = """
select (pg_last_wal_receive_lsn() - '0/0')::bigint, clock_timestamp(), current_database()::text
"""


class StandbySnapshot:
    """See `sources.contract.Measured`. position: it shows the commits before that, all of them."""

    def __init__(
        self, connection: Connection, position: Position, name: str, protection: Protection
    ) -> None:
        self.position = position
        self.patience = float(protection.max_proof)
        self.strain = watcher(connection, name, protection)
        self._connection = connection
        self._name = name
        self._lock = threading.Lock()
        utf8 = connection.info.parameter_status("server_encoding") == "UTF8"
        self._measuring = Measuring(self._query, self._query, utf8=utf8)

    def figures(
        self,
        table: Table,
        selection: Selection,
        *,
        buckets: int | None = None,
        pace: Pace | None = None,
        scan: bool = False,
    ) -> Figures:
        """See `sources.contract.Measured`."""
        pace = pace or (lambda _: None)
        return self._measuring.paced(table, selection, buckets, pace, scan=scan)

    def axis(self, table: Table) -> Axis:
        """See `sources.contract.Measured`."""
        return self._measuring.axis(table)

    def bound(self, table: Table, axis: Axis, lower: int | None, rows: int) -> int | None:
        """See `sources.contract.Measured`."""
        return self._measuring.bound(table, axis, lower, rows)

    def _query(self, table: Table, query: str) -> list[tuple[object, ...]]:
        """In a savepoint: a statement that is cancelled must not cost the snapshot."""
        with self._lock, _errors(self._name, f"reading {table.name} on the standby"):
            try:
                with self._connection.transaction():
                    rows = self._connection.execute(query.encode()).fetchall()
                    changed = self._connection.execute(unchanged.statement(table).encode())
                    [(altered,)] = changed.fetchall()
            except psycopg.errors.UndefinedTable as error:
                raise unchanged.changed(table, "it is gone") from error
            except psycopg.DataError as error:
                raise TerminalError(  # without its words: they may quote what is protected
                    f"{table.name} could not be read on the standby (SQLSTATE {error.sqlstate}).",
                    "Select all its rows by hand: the server says which value is at fault.",
                ) from None
        if altered:
            raise unchanged.changed(table, "it was altered, truncated or re-created")
        return rows


@contextmanager
def standby_snapshot(
    primary: Connection, connection: Connection, name: str, protection: Protection, after: int
) -> Iterator[StandbySnapshot]:
    """Open a view at or after the position `after`. Raises SourceUnavailable, DeclarationError."""
    with _errors(name, "opening the standby"):
        _check(primary, connection, name)
        position = _positioned(connection, name, after)
    try:
        yield StandbySnapshot(connection, position, name, protection)
    finally:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def _check(primary: Connection, connection: Connection, name: str) -> None:
    """It must be a standby of this very server, on its timeline."""
    systems = [one.execute(_SYSTEM.encode()).fetchone() for one in (primary, connection)]
    recovering, timeline, role = connection.execute(_RECEIVER.encode()).fetchone() or (False, 0, "")
    if systems[0] != systems[1]:
        raise DeclarationError(
            f"The standby of source {name!r} is no copy of its server: the system identifier is"
            f" {(systems[1] or '?')[0]}, not {(systems[0] or '?')[0]}.",
            "Correct `standby_host` and `standby_port`.",
        )
    if not recovering:
        raise DeclarationError(
            f"The standby of source {name!r} is not in recovery: it was promoted, or is the"
            " primary itself.",
            "Correct `standby_host` and `standby_port`, or leave them out.",
        )
    if timeline is None:
        raise SourceUnavailable(
            f"The standby of source {name!r} does not show that it receives its primary's log.",
            f"Start its streaming, or GRANT pg_read_all_stats TO {role};",
        )
    [ours] = primary.execute(_TIMELINE.encode()).fetchone() or (None,)
    if timeline != ours:
        raise SourceUnavailable(
            f"The standby of source {name!r} follows timeline {timeline}, the source is on {ours}.",
            "Wait until it follows, or correct `standby_host` and `standby_port`.",
        )


def _positioned(connection: Connection, name: str, after: int) -> Position:
    """Begin a transaction whose snapshot is at a position that is known exactly."""
    deadline = time.monotonic() + PATIENCE
    while True:
        [replayed] = connection.execute(_REPLAYED.encode()).fetchone() or (None,)
        if isinstance(replayed, int) and replayed >= after:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            row = connection.execute(_RECEIVED.encode()).fetchone()
            received, at, database = row or (None, None, None)
            if received == replayed:
                token = {"lsn": lsn_text(replayed), "database": str(database), "on": "standby"}
                return Position(at, replayed, token)  # type: ignore[arg-type]
            connection.execute("ROLLBACK")
        if time.monotonic() > deadline:
            raise SourceUnavailable(
                f"The standby of source {name!r} has not replayed all that it received, up to"
                f" {lsn_text(after)} at least, at any moment of {PATIENCE:.0f} s: the position of"
                " its snapshot could not be known.",
                "Prove at a quieter time, or when the standby has caught up.",
            )
        time.sleep(_PAUSE)


@contextmanager
def _errors(name: str, doing: str) -> Iterator[None]:
    try:
        with source_errors(name, doing):
            yield
    except ReplicationError as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.Error) and "conflict with recovery" in str(cause):
            raise SourceUnavailable(
                f"Source {name!r}, {doing}: the standby ended it, to go on with its replay.",
                "Try again; if it repeats, set hot_standby_feedback = on there, or raise"
                " max_standby_streaming_delay.",
            ) from error
        raise
