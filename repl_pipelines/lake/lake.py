"""The lake of one source: its tables, its journal, and DuckDB sessions that can read them."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import duckdb

from repl_pipelines import duck
from repl_pipelines.lake.differences import Differences
from repl_pipelines.lake.evidence import EvidenceChain
from repl_pipelines.lake.journal import Journal
from repl_pipelines.lake.locations import (
    differences_location,
    evidence_location,
    journal_location,
    source_location,
    table_location,
)
from repl_pipelines.lake.store import ATTEMPTS, READ_SECONDS, Store
from repl_pipelines.lake.store_errors import store_errors
from repl_pipelines.lake.table import RETENTION, LakeTable
from repl_pipelines.model.sql import literal
from repl_pipelines.model.table import TableName

# DuckDB (1.5.5) keeps a kilobyte or two of each query over Parquet files, and what it has read of
# them, until it is closed: after so many sessions another one takes its place.
SESSIONS = 200


class Lake:
    """All copies of one source's tables in one store. Threads may share it."""

    def __init__(self, store: Store, source: str, limits: duck.Limits | None = None) -> None:
        self.store = store
        self.source = source
        self.limits = limits or duck.Limits()
        self._lock = threading.Lock()
        self._secret = ""
        self._sessions = 0
        self._duckdb = self._new_duckdb()
        self.folder = store.key(source_location(source))
        self.uri = store.uri(self.folder)
        self.journal = Journal(store, journal_location(source), self.session)
        self.differences = Differences(store, differences_location(source))

    def table(self, name: TableName) -> LakeTable:
        return LakeTable(self.store, table_location(self.source, name), name, self.session)

    def evidence(self, name: TableName) -> EvidenceChain:
        return EvidenceChain(self.store, evidence_location(self.source, name))

    def records(
        self, tables: Iterable[TableName], count: int
    ) -> Mapping[TableName, Sequence[tuple[str, bytes]]]:
        """(name, content) of the newest `count` records of proofs of each table, oldest first."""
        found: dict[TableName, list[tuple[str, bytes]]] = {table: [] for table in tables}
        places = {uri: table for table in found for uri in self.evidence(table).addresses(count)}
        if places:
            addresses = ", ".join(map(literal, places))
            query = f"SELECT filename, content FROM read_blob([{addresses}]) ORDER BY filename"
            with store_errors("Reading the records of proofs"), self.session() as session:
                for uri, content in session.execute(query).fetchall():
                    found[places[uri]].append((uri.rsplit("/", 1)[1], content))
        return found

    def session(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB session that reads this lake, within one memory bound; the caller closes it."""
        with self._lock:
            self._sessions += 1
            if self._sessions % SESSIONS == 0:  # the old one ends with the last of its sessions
                self._duckdb, self._secret = self._new_duckdb(), ""
            session = self._duckdb.session()
            secret = self.store.secret_sql
            if secret != self._secret:  # a new DuckDB, or credentials of a chain were renewed
                session.execute(secret)
                self._secret = secret
        return session

    def own_session(self) -> duckdb.DuckDBPyConnection:
        """The same with a DuckDB of its own: what it attaches is closed with it."""
        session = duck.connect(("httpfs",), limits=self.limits)
        self._prepare(session)
        session.execute(self.store.secret_sql)
        return session

    def _new_duckdb(self) -> duck.Instance:
        return duck.Instance(("httpfs",), self.limits, self._prepare)

    def _prepare(self, session: duckdb.DuckDBPyConnection) -> None:
        # Global, as what is set otherwise holds for this session only, and not for its cursors.
        session.execute(f"SET http_timeout = {READ_SECONDS}")
        session.execute(f"SET http_retries = {ATTEMPTS}")
        session.execute("SET GLOBAL http_retry_backoff = 2")
        session.execute("SET GLOBAL enable_server_cert_verification = true")
        if self.store.authorities:
            session.execute(f"SET GLOBAL ca_cert_file = {literal(str(self.store.authorities))}")

    def vacuum(self, *, retention: timedelta = RETENTION) -> int:
        """Delete files that neither the newest state nor a version within `retention` needs."""
        keep: dict[TableName, set[int]] = {}
        for (name, _), entry in self.journal.heads().items():
            keep.setdefault(name, set()).add(entry.version)
        deleted = sum(
            self.table(name).vacuum(retention=retention, keep=sorted(versions))
            for name, versions in keep.items()
        )
        return deleted + self.journal.vacuum(retention=retention)
