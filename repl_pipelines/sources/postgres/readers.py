"""DuckDB sessions that read PostgreSQL inside an exported snapshot, a statement at a time."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import LifoQueue
from uuid import uuid4

import duckdb

from repl_pipelines import duck
from repl_pipelines.errors import (
    GrantMissing,
    ReplicationError,
    SourceUnavailable,
    StatementTimeout,
)
from repl_pipelines.model.sql import literal
from repl_pipelines.sources.postgres.connection import describe
from repl_pipelines.sources.postgres.trust import distrust


class Readers:
    """A fixed number of connections that all see one snapshot.

    The DuckDB scanner is the fastest reader there is; everything it could damage is rendered on
    the server first (see `types.read_expression`). It is loaded, which takes half a second of CPU,
    when something is first read.
    """

    def __init__(
        self, name: str, dsn: str, snapshot: str, workers: int, instance: duck.Instance
    ) -> None:
        self._name = name
        self._dsn = dsn
        self._snapshot = snapshot
        self._instance = instance
        self.catalog = f"source_{uuid4().hex}"
        self._attach = f"ATTACH {literal(dsn)} AS {self.catalog} (TYPE postgres, READ_ONLY)"
        self._lock = threading.Lock()
        self._session: duckdb.DuckDBPyConnection | None = None  # attached when first needed
        self._idle: LifoQueue[duckdb.DuckDBPyConnection | None] = LifoQueue()
        for _ in range(workers):
            self._idle.put(None)  # opened when first needed

    @contextmanager
    def reader(self, doing: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session inside the snapshot; waits until one is free."""
        session = self._idle.get()
        try:
            with self._errors(doing):
                self._attached()
                session = session or self._open()
                yield session
        except BaseException:
            session, broken = None, session  # its transaction is aborted: a new one next time
            if broken:
                _end(broken)
            raise
        finally:
            self._idle.put(session)

    def close(self) -> None:
        while not self._idle.empty():
            session = self._idle.get()
            if session:
                _end(session)
        if self._session:
            self._session.execute(f"DETACH {self.catalog}")
            self._session.close()

    def query(self, statement: str) -> str:
        """DuckDB SQL for the rows of a server's statement; to be used in a reader."""
        return f"postgres_query('{self.catalog}', {literal(statement)})"

    def _attached(self) -> None:
        with self._lock:
            if self._session is None:
                session = self._instance.session()
                session.execute(self._attach)
                self._session = session

    def _open(self) -> duckdb.DuckDBPyConnection:
        session = self._instance.session()
        try:
            session.execute("BEGIN")
            adopt = f"SET TRANSACTION SNAPSHOT {literal(self._snapshot)}"
            session.execute(f"CALL postgres_execute('{self.catalog}', {literal(adopt)})")
        except BaseException:
            _end(session)
            raise
        return session

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ReplicationError:
            raise
        except duckdb.Error as error:
            said = str(error).replace(self._dsn, describe(self._dsn))
            connecting = said != str(error)  # it names the address with all that is secret in it
            text = " ".join(said.split())
            where = f"Source {self._name!r}, {doing}"
            if connecting and (untrusted := distrust(where, self._dsn, server_words(text))):
                raise untrusted from None
            if "permission denied" in text or "row-level security" in text:
                raise GrantMissing(
                    f"{where}: {server_words(text)}.",
                    "Grant SELECT on the table (and BYPASSRLS where row-level security is on).",
                ) from error
            if "due to statement timeout" in text:
                raise StatementTimeout(
                    f"{where}: {server_words(text)}.",
                    "Raise the source's statement_timeout, or wait until it is less busy.",
                ) from error
            if connecting or _LOST.search(text):
                raise SourceUnavailable(
                    f"{where}: {server_words(text)}.",
                    "The next sync starts again from the last published position.",
                ) from (None if connecting else error)
            raise


def _end(session: duckdb.DuckDBPyConnection) -> None:
    """Close a session in the midst of its transaction.

    When its server is gone the roll-back fails: as a statement it raises, in `close` it would abort
    the process.
    """
    with suppress(duckdb.Error):
        session.execute("ROLLBACK")
    session.close()


_LOST = re.compile(
    r"server closed the connection|terminating connection|connection to server|could not connect"
    r"|SSL connection has been closed|canceling statement|no connection to the server"
    r"|invalid snapshot identifier|snapshot .{3,60} does not exist|connection not open"
    r"|could not receive data|lost synchron"
    r"|unable to connect|Unable to connect|lock timeout|cannot be opened|system is shutting down"
    r"|recovery mode|starting up"
)


def server_words(text: str) -> str:
    """The part of a scanner error that the server said, without the statement it echoes."""
    found = re.search(r"(?:ERROR|FATAL|PANIC):\s*(.*?)(?: LINE \d|CONTEXT:|$)", text)
    return (found.group(1) if found else text[:300]).strip()
