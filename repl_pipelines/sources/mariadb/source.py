"""MariaDB, or MySQL, as a source: discovery, claims, snapshots."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial

import pymysql

from repl_pipelines import duck
from repl_pipelines.errors import GrantMissing
from repl_pipelines.model.column import Column
from repl_pipelines.model.diagnosis import Diagnosis, Grade, examined
from repl_pipelines.model.position import Position
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.model.trace import Trace
from repl_pipelines.sources.concealment import Secrets, concealed
from repl_pipelines.sources.contract import LogStatus, Measured, Outlook, Survey
from repl_pipelines.sources.diagnosis import diagnosed
from repl_pipelines.sources.mariadb import catalog, diagnosis, open_transactions, outlook, values
from repl_pipelines.sources.mariadb.connection import (
    Address,
    Connection,
    Protection,
    connect,
    rows,
    source_errors,
)
from repl_pipelines.sources.mariadb.log.reading import LogReading
from repl_pipelines.sources.mariadb.readers import Readers
from repl_pipelines.sources.mariadb.snapshot import MariadbSnapshot
from repl_pipelines.sources.outlook import look_out


class MariadbSource:
    """A server of the dialect that its address names.

    The user needs SELECT on the tables and what docs/operating.md lists. Nothing is written.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        protection: Protection | None = None,
        limits: duck.Limits | None = None,
        *,
        hash_key: str = "",
        encrypt_key: str = "",
    ) -> None:
        """hash_key, encrypt_key: the secrets of the policies `hash` and `encrypt`.

        Raises DeclarationError for one too short, or for one that has both tasks.
        """
        self.name = name
        self.kind = address.dialect.kind
        self.address = address
        self.protection = protection or Protection()
        self._secrets = Secrets.of(name, hash_key, encrypt_key)
        self._duckdb = duck.Instance((), limits)

    def survey(self, declarations: Sequence[Declaration]) -> Survey:
        """See `sources.contract.Source`."""
        with self.connection() as connection, self._errors("reading the catalog"):
            schema = self.address.database
            return catalog.survey(connection, self.name, schema, declarations, self._secrets)

    def diagnose(self, declarations: Sequence[Declaration]) -> Sequence[Diagnosis]:
        """See `sources.contract.Source`."""

        def look() -> Iterator[Diagnosis]:
            with self.connection() as connection, self._errors("looking at the server"):
                found = list(diagnosis.diagnose(connection, declarations, self.protection))
            yield from found
            try:
                yield from diagnosed(self.survey(declarations), values.misfit)
            except GrantMissing:
                if all(one.grade is not Grade.FAULT for one in found):
                    raise  # else it is one of those

        return examined("connection", look)

    def look_out(self, tables: Sequence[Table], horizons: Mapping[TableName, str]) -> Outlook:
        """See `sources.contract.Source`."""
        with self.connection() as connection, self._errors("looking at what has changed"):
            return look_out(
                tables,
                horizons,
                self.protection.workers,
                partial(outlook.planned, connection),
                partial(outlook.ahead, connection, horizons),
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
    def claim(self, names: Sequence[str], run: str) -> Iterator[frozenset[str]]:  # noqa: ARG002
        """See `sources.contract.Source`; named locks, which end with their session."""
        with self.connection() as connection:
            with self._errors("claiming tables"):
                obtained = frozenset(
                    name
                    for name in names
                    if rows(connection, "select get_lock(%s, 0)", self._lock(name)) == ((1,),)
                )
            try:
                yield obtained
            finally:
                # The server may notice the end of a session only after the next has asked.
                with suppress(pymysql.Error):
                    rows(connection, "select release_all_locks()")

    def holder(self, name: str) -> str:
        """Who holds a name, as far as the server shows it."""
        with self.connection() as connection, self._errors("asking who syncs"):
            [(number,)] = rows(connection, "select is_used_lock(%s)", self._lock(name))
            found = rows(
                connection,
                "select user, host from information_schema.processlist where id = %s",
                number,
            )
        return f"{found[0][0]} at {found[0][1]} (connection {number})" if found else "another sync"

    @contextmanager
    def snapshot(
        self,
        tables: Sequence[Table] = (),
        horizons: Mapping[TableName, str] | None = None,
    ) -> Iterator[MariadbSnapshot]:
        """See `sources.contract.Source`. Log and watermark come first, then the snapshot."""
        log = self._prepare_log([t for t in tables if t.mode is Mode.LOG], horizons or {})
        mark = None
        if any(t.mode is Mode.CURSOR for t in tables):
            with self._errors("looking at open transactions"):
                mark = open_transactions.watermark(self.address, self.protection, self.name)
        with closing(Readers(self.name, self.address, self.protection, self._secrets)) as readers:
            yield MariadbSnapshot(readers, mark, log, self.protection, self._duckdb)

    def standby(self, after: int) -> AbstractContextManager[Measured] | None:  # noqa: ARG002
        """See `sources.contract.Source`."""
        return None

    def settled(self, horizon: str, position: Position) -> bool:  # noqa: ARG002
        """See `sources.contract.Source`."""
        return False

    def acknowledge(self, horizons: Collection[str]) -> None:
        """See `sources.contract.Source`."""

    def watch_log(self) -> LogStatus | None:
        """See `sources.contract.Source`."""
        return None

    def traces(self) -> Sequence[Trace]:
        """See `sources.contract.Source`."""
        return ()

    def erase(self, trace: Trace) -> None:
        """See `sources.contract.Source`."""

    def _prepare_log(
        self, tables: Sequence[Table], horizons: Mapping[TableName, str]
    ) -> LogReading | None:
        if not tables:
            return None
        log = LogReading.prepare(self.connection, self.name, tables, horizons, self._duckdb)
        return replace(log, secrets=self._secrets)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A session of its own."""
        connection = connect(self.address, self.protection, self.name)
        try:
            yield connection
        finally:
            connection.close()

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return source_errors(self.name, doing)

    def _lock(self, name: str) -> str:
        """Names of locks are shared by the whole server, and have 64 characters."""
        digest = hashlib.sha256(f"{self.address.database}/{self.name}/{name}".encode())
        return f"repl_pipelines {digest.hexdigest()[:40]}"
