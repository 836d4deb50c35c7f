"""A MariaDB or MySQL database, its lake, and the oracle that compares them row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from repl_pipelines.errors import ReplicationError
from repl_pipelines.lake.lake import Lake
from repl_pipelines.model.entry import Entry
from repl_pipelines.model.sql import quote
from repl_pipelines.model.table import Declaration, Mode, Table, TableName
from repl_pipelines.proof.canonical import duckdb_canonical
from repl_pipelines.replicas.contract import Replica
from repl_pipelines.sources.contract import Changes
from repl_pipelines.sources.mariadb import values
from repl_pipelines.sources.mariadb.connection import Address, Connection, Protection, connect, rows
from repl_pipelines.sources.mariadb.source import MariadbSource
from repl_pipelines.sync import run
from repl_pipelines.sync.engine import Replication
from repl_pipelines.sync.log import sync_log
from repl_pipelines.sync.work import Work
from tests.family import spelled
from tests.servers import Bucket
from tests.sync.conftest import store_of

Rows = list[tuple]
LOG = Declaration("*", mode=Mode.LOG)


@dataclass
class Maria:
    """One replication in mode log.

    gaps: of the last sync, by table: why the log could not continue the copy, '' where it could;
          tables that were copied whole are not in it
    """

    address: Address
    bucket: Bucket
    replicas: list[Replica] = field(default_factory=list)
    gaps: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lake = Lake(store_of(self.bucket), "shop")
        self.connection = self.connect()
        self.replication = self.replicated(LOG)

    def connect(self) -> Connection:
        return connect(self.address, Protection(), "test")

    def replicated(self, *declarations: Declaration) -> Replication:
        source = MariadbSource("shop", self.address)
        return Replication("shop", source, self.lake, self.replicas, declarations)

    def sql(self, *statements: str) -> Rows:
        found: Rows = []
        for statement in statements:
            found = list(rows(self.connection, spelled(self.address, statement)))
        return found

    def attempt(self, *statements: str) -> tuple[dict[str, Entry], dict[str, ReplicationError]]:
        """Do these and sync; entries and failures, by table."""
        self.sql(*statements)
        self.gaps.clear()
        report = self.replication.sync()
        failed = {name.name: error for name, error in report.failed.items()}
        return {entry.table.name: entry for entry in report.entries}, failed

    def sync(self, *statements: str) -> dict[str, Entry]:
        """Do these, sync, and hold every copy against its source; the entries, by table."""
        entries, failed = self.attempt(*statements)
        assert failed == {}, failed
        self.assert_equal()
        return entries

    def streamed(self, *statements: str) -> dict[str, Entry]:
        """As `sync`; the log alone must have brought every table there."""
        entries = self.sync(*statements)
        assert self.gaps == dict.fromkeys(entries, ""), self.gaps
        assert {entry.reconciled for entry in entries.values()} == {0}
        return entries

    def assert_equal(self) -> None:
        for table in self.replication.tables():
            assert self.lake_rows(table) == self.source_rows(table), table.name

    def source_rows(self, table: Table) -> Rows:
        forms = ", ".join(f"concat({', '.join(values.canonical(c))})" for c in table.columns)
        name = f"{quote(table.name.schema)}.{quote(table.name.name)}"
        with connect(self.address, Protection(), "test") as beside:
            return sorted(rows(beside, f"select {forms} from {name}"))

    def lake_rows(self, table: Table, version: int | None = None) -> Rows:
        forms = ", ".join(f"concat({', '.join(duckdb_canonical(c))})" for c in table.columns)
        copy = self.lake.table(table.name).rows_sql(table, version=version)
        with self.lake.session() as session:
            return sorted(session.execute(f"select {forms} from ({copy})").fetchall())

    def end_prepared(self) -> None:
        """Roll back distributed transactions that nobody ends any more."""
        for form, n, m, told in self.sql("xa recover"):
            name = told.encode() if isinstance(told, str) else told  # MySQL's
            self.sql(f"xa rollback x'{name[:n].hex()}',x'{name[n : n + m].hex()}',{form}")

    def name(self, table: str) -> TableName:
        return TableName(self.address.database, table)


@contextmanager
def following(address: Address, bucket: Bucket, *statements: str) -> Iterator[Maria]:
    """Tables made by these statements, and synced once."""
    maria = Maria(address, bucket)

    def spy(work: Work, changes: Changes, *, measure: bool) -> list[Entry]:
        maria.gaps[work.table.name.name] = changes.gap
        return sync_log(work, changes, measure=measure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "sync_log", spy)
        maria.sync(*statements)
        yield maria
    maria.connection.close()
