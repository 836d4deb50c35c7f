"""PostgreSQL as a source: discovery, claims, snapshots."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg

from repl_pipelines import duck
from repl_pipelines.model.column import Column
from repl_pipelines.model.diagnosis import Diagnosis, examined
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.model.trace import Trace
from repl_pipelines.sources.concealment import Secrets, concealed
from repl_pipelines.sources.contract import Changes, LogStatus, Outlook, Survey
from repl_pipelines.sources.outlook import look_out
from repl_pipelines.sources.postgres import catalog, diagnosis, horizon, outlook
from repl_pipelines.sources.postgres.connection import (
    Connection,
    Protection,
    connect,
    session_dsn,
    source_errors,
)
from repl_pipelines.sources.postgres.log import slot
from repl_pipelines.sources.postgres.log.anchor import Anchor
from repl_pipelines.sources.postgres.log.reading import LogReading
from repl_pipelines.sources.postgres.log.spool import Target
from repl_pipelines.sources.postgres.log.stream import LogStream
from repl_pipelines.sources.postgres.log.traces import erase, traces
from repl_pipelines.sources.postgres.readers import Readers
from repl_pipelines.sources.postgres.snapshot import Logged, PostgresSnapshot
from repl_pipelines.sources.postgres.standby import StandbySnapshot, standby_snapshot
from repl_pipelines.sources.postgres.strain import watcher
from repl_pipelines.sources.postgres.types import key_settings


class PostgresSource:
    """A PostgreSQL database, 14 or newer, primary or (modes full and partition) standby.

    The role needs SELECT on the tables, and `pg_read_all_stats` for mode cursor; nothing is
    written, and no more than `protection.workers` + 2 connections are open at once.
    """

    kind = "postgres"

    def __init__(
        self,
        name: str,
        dsn: str,
        protection: Protection | None = None,
        limits: duck.Limits | None = None,
        standby: str | None = None,
        *,
        hash_key: str = "",
        encrypt_key: str = "",
    ) -> None:
        """standby: address of a standby of the same server, for proofs to read from.

        hash_key, encrypt_key: the secrets of the policies `hash` and `encrypt`. Raises
        DeclarationError for one that is too short.
        """
        self.name = name
        self.protection = protection or Protection()
        # A thread of its own for each reader. Of several, those that wait for the server spin.
        self._duckdb = duck.Instance(
            ("postgres_scanner",),
            replace(limits or duck.Limits(), threads=1),
            lambda s: s.execute("SET pg_connection_cache = false"),
        )
        # For the log, which is read before any table is: never are both at work.
        self._spooling = duck.Instance((), limits)
        self._given = dsn
        self._standby = standby
        self._secrets = Secrets.of(name, hash_key, encrypt_key)

    def survey(self, declarations: Sequence[Declaration]) -> Survey:
        """See `sources.contract.Source`."""
        with self._connection("survey") as connection, self._errors("reading the catalog"):
            return catalog.survey(connection, self.name, declarations, self._secrets)

    def diagnose(self, declarations: Sequence[Declaration]) -> Sequence[Diagnosis]:
        """See `sources.contract.Source`."""

        def look() -> Iterator[Diagnosis]:
            survey = self.survey(declarations)
            with self._connection("diagnose") as connection, self._errors("looking at the server"):
                yield from diagnosis.diagnose(connection, self.name, survey, self.protection)
            if self._standby:
                yield from self._diagnosed_standby(self._standby)

        return examined("connection", look)

    def _diagnosed_standby(self, address: str) -> Iterator[Diagnosis]:
        dsn = session_dsn(address, self.protection, f"repl_pipelines {self.name} diagnose")
        with closing(connect(dsn, self.name)) as connection, self._errors("asking the standby"):
            yield diagnosis.standby(connection)

    def look_out(self, tables: Sequence[Table], horizons: Mapping[TableName, str]) -> Outlook:
        """See `sources.contract.Source`."""
        with self._connection("plan") as connection, self._errors("looking at what has changed"):
            return look_out(
                tables,
                horizons,
                self.protection.workers,
                partial(outlook.planned, connection),
                partial(outlook.ahead, connection, self.name, horizons),
            )

    def discover(self, declarations: Sequence[Declaration]) -> list[Table]:
        """See `sources.contract.Source`."""
        survey = self.survey(declarations)
        for problem in survey.problems.values():
            raise problem
        return list(survey.tables)

    def in_place_of(self, column: Column, texts: Sequence[str]) -> list[str]:
        """See `sources.contract.Source`."""
        found = concealed(column, texts, self._secrets) if column.concealed else texts
        return [str(text) for text in found]

    @contextmanager
    def claim(self, names: Sequence[str], run: str) -> Iterator[frozenset[str]]:
        """See `sources.contract.Source`; session-level advisory locks, which end with us."""
        with self._connection(f"claim {run}") as connection:
            with self._errors("claiming tables"):
                rows = connection.execute(
                    "select name, pg_try_advisory_lock(key) from"
                    " unnest(%s::text[], %s::bigint[]) as wanted(name, key)",
                    [list(names), [self._lock(name) for name in names]],
                ).fetchall()
            try:
                yield frozenset(str(name) for name, obtained in rows if obtained)
            finally:
                # The server may notice the end of a session only after the next has asked.
                with suppress(psycopg.Error):
                    connection.execute("select pg_advisory_unlock_all()")

    def holder(self, name: str) -> str:
        """Who holds a name, as far as the server shows it."""
        key = self._lock(name) % 2**64
        with self._connection("holder") as connection, self._errors("asking who syncs"):
            row = connection.execute(
                "select a.application_name, a.backend_start from pg_locks l"
                " join pg_stat_activity a using (pid) where l.locktype = 'advisory' and l.granted"
                " and l.classid::bigint = %s and l.objid::bigint = %s and l.objsubid = 1",
                [key >> 32, key & (2**32 - 1)],
            ).fetchone()
        return f"{row[0]} since {row[1]}" if row else "another sync"

    @contextmanager
    def snapshot(
        self, tables: Sequence[Table] = (), horizons: Mapping[TableName, str] | None = None
    ) -> Iterator[PostgresSnapshot]:
        """See `sources.contract.Source`. Log and watermark come first, then the snapshot."""
        log = self._prepare_log([t for t in tables if t.mode is Mode.LOG], horizons or {})
        with self._connection("snapshot") as connection:
            with self._errors("taking the snapshot"):
                cursors = any(t.mode is Mode.CURSOR for t in tables)
                mark = horizon.watermark(connection, self.name) if cursors else None
                exported, position = _export(connection)
                if log:
                    log.observe(connection)
                utf8 = connection.info.parameter_status("server_encoding") == "UTF8"
            readers = Readers(
                self.name,
                self._dsn("read", key_settings(self._secrets)),
                exported,
                workers=self.protection.workers,
                instance=self._duckdb,
            )
            try:
                logged = (
                    Logged(log.anchors, partial(self._read_log, log, position)) if log else None
                )
                strain = watcher(connection, self.name, self.protection)
                yield PostgresSnapshot(
                    position, mark, logged, readers, self.protection, strain=strain, utf8=utf8
                )
            finally:
                readers.close()

    def standby(self, after: int) -> AbstractContextManager[StandbySnapshot] | None:
        """See `sources.contract.Source`."""
        return self._on_standby(self._standby, after) if self._standby else None

    def settled(self, horizon: str, position: Position) -> bool:
        """See `sources.contract.Source`."""
        anchor = Anchor.parse(horizon)
        return anchor is not None and anchor.safe >= position.order

    @contextmanager
    def _on_standby(self, address: str, after: int) -> Iterator[StandbySnapshot]:
        application = f"repl_pipelines {self.name} proof"
        dsn = session_dsn(address, self.protection, application, key_settings(self._secrets))
        with (
            self._connection("standby") as primary,
            closing(connect(dsn, self.name)) as connection,
            standby_snapshot(primary, connection, self.name, self.protection, after) as snapshot,
        ):
            yield snapshot

    def acknowledge(self, horizons: Collection[str]) -> None:
        """See `sources.contract.Source`."""
        anchors = [anchor for text in horizons if (anchor := Anchor.parse(text))]
        if anchors:
            with self._connection("log") as connection, self._errors("acknowledging"):
                slot.may_write(connection)
                safe = min(anchor.safe for anchor in anchors)
                slot.advance(connection, slot.name_for(self.name), safe)

    def watch_log(self) -> LogStatus | None:
        """See `sources.contract.Source`."""
        protection = self.protection
        with self._connection("log") as connection, self._errors("looking at the slot"):
            slot.may_write(connection)
            name = slot.name_for(self.name)
            found = slot.read_slot(connection, name)
            if found is None:
                return None
            limit = protection.retained_limit
            release = limit is not None and found.retained > limit and not found.active
            if release:
                slot.drop_slot(connection, name)
        return LogStatus(
            name=name,
            state=found.wal_status or "lost",
            retained=found.retained,
            behind=found.behind,
            warn=protection.retained_warn,
            limit=limit,
            released=release,
        )

    def traces(self) -> Sequence[Trace]:
        """See `sources.contract.Source`."""
        with self._connection("traces") as connection, self._errors("looking for what is ours"):
            return list(traces(connection, self.name))

    def erase(self, trace: Trace) -> None:
        """See `sources.contract.Source`."""
        with self._connection("traces") as connection, self._errors(f"dropping {trace.name}"):
            erase(connection, self.name, trace)

    def _read_log(
        self, log: LogReading, position: Position, batches: Mapping[TableName, int], directory: Path
    ) -> Mapping[TableName, Changes]:
        """Read the slot up to a snapshot that was just taken at `position`."""
        if not log.readable:
            return log.refusals()
        with (
            self._connection("log") as control,
            self._errors("reading the log"),
            closing(LogStream(self._dsn("log"), self.name)) as stream,
            closing(self._spooling.session()) as session,
        ):
            target = Target(directory, session, batches, self._secrets)
            return log.read(control, stream, position.token["snapshot"], target)

    def _prepare_log(
        self, tables: Sequence[Table], horizons: Mapping[TableName, str]
    ) -> LogReading | None:
        if not tables:
            return None
        with self._connection("log") as connection, self._errors("preparing the log"):
            return LogReading.prepare(connection, self.name, tables, horizons)

    def _dsn(self, purpose: str, more: Mapping[str, str] | None = None) -> str:
        application = f"repl_pipelines {self.name} {purpose}"
        return session_dsn(self._given, self.protection, application, more)

    @contextmanager
    def _connection(self, purpose: str) -> Iterator[Connection]:
        connection = connect(self._dsn(purpose), self.name)
        try:
            yield connection
        finally:
            connection.close()

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return source_errors(self.name, doing)

    def _lock(self, name: str) -> int:
        digest = hashlib.sha256(f"repl_pipelines/{self.name}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def _export(connection: Connection) -> tuple[str, Position]:
    """Begin the transaction that holds the snapshot; then, not before, note where the log is."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    row = connection.execute(
        "select pg_export_snapshot(), pg_current_snapshot()::text, clock_timestamp()"
    ).fetchone()
    assert row is not None
    exported, snapshot, at = row
    log = connection.execute(
        "select lsn::text, (lsn - '0/0')::bigint, current_database()::text from (select case when"
        " pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)"
        " as log(lsn)"
    ).fetchone()
    assert log is not None
    assert isinstance(at, datetime)
    token = {"lsn": str(log[0]), "snapshot": str(snapshot), "database": str(log[2])}
    return str(exported), Position(at, int(str(log[1])), token)
